// Shell commands that repeat a request. Everything variable is quoted for a POSIX shell, and once more for the
// small languages inside: curl's form syntax and printf's format.

/** One shell word, whatever is in `text`. */
export function shellQuote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A path that no tool mistakes for an option or for standard input. */
function safePath(name) {
  return name.startsWith("-") ? `./${name}` : name;
}

/** A `--form` value that uploads a file; curl reads `;`, `,` and quotes in it unless they are quoted its way. */
function formFile(field, name, type) {
  const path = safePath(name).replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return `${field}=@"${path}";type=${type}`;
}

// The one part that a shell is to fill in: a key has no place on a screen.
const KEY_HEADER = '-H "X-API-Key: $API_KEY"';

const BODIES = {
  raw: ({ fileName, contentType }) => [
    `-H ${shellQuote(`Content-Type: ${contentType}`)}`,
    `--data-binary ${shellQuote(`@${safePath(fileName)}`)}`,
  ],
  multipart: ({ fileName, contentType, pairs }) => [
    ...pairs.map(([name, value]) => `--form-string ${shellQuote(`${name}=${value}`)}`),
    `--form ${shellQuote(formFile("image", fileName, contentType))}`,
  ],
  json: () => [`-H ${shellQuote("Content-Type: application/json")}`, "--data-binary @-"],
};

/**
 * The command for one detection.
 *
 * `request` holds `form` (raw, multipart or json), `url` (with the options in its query for the raw form), `pairs` and
 * `members` (the options for the other two forms), `fileName`, `contentType`, `asPicture` (ask for the annotated JPEG) and
 * `withKey` (send the API key in the variable API_KEY).
 */
export function curlCommand(request) {
  const parts = [`curl ${shellQuote(request.url)}`, ...BODIES[request.form](request)];
  if (request.withKey) parts.push(KEY_HEADER);
  if (request.asPicture) {
    parts.push(`-H ${shellQuote("Accept: image/jpeg")}`, `-o ${shellQuote(safePath(annotatedName(request.fileName)))}`);
  }
  const command = parts.join(" \\\n  ");
  return request.form === "json" ? `${jsonBody(request)} |\n${command}` : command;
}

// The picture is far longer than a command line may be, so the body is printed by the shell and piped in.
function jsonBody({ fileName, members }) {
  const rest = JSON.stringify(members).slice(1).replaceAll("\\", "\\\\").replaceAll("%", "%%");
  const format = shellQuote(`{"image":"%s"${rest.length > 1 ? "," : ""}${rest}`);
  return `printf ${format} "$(base64 < ${shellQuote(safePath(fileName))} | tr -d '\\n')"`;
}

/** The name under which the annotated picture is saved. */
export function annotatedName(fileName) {
  return `${fileName.replace(/\.[^.]*$/, "") || "picture"}-annotated.jpg`;
}

/** A command for any HTTP request: `headers` are `[name, value]`, `form` are ready `--form` values, `data` is a text. */
export function anyCommand({ method, url, headers = [], form = [], data = null, file = null, withKey = false }) {
  const parts = [`curl ${method === "GET" || (method === "POST" && (data ?? file ?? form[0])) ? "" : `-X ${method} `}${shellQuote(url)}`];
  if (withKey) parts.push(KEY_HEADER);
  headers.forEach(([name, value]) => parts.push(`-H ${shellQuote(`${name}: ${value}`)}`));
  form.forEach((value) => parts.push(`--form ${shellQuote(value)}`));
  if (file) parts.push(`--data-binary ${shellQuote(`@${file}`)}`);
  if (data !== null) parts.push(`--data ${shellQuote(data)}`);
  return parts.join(" \\\n  ");
}
