// The API page: draws the OpenAPI document that the instance itself serves.

import { anyCommand } from "./curl.js";
import { byId, copies, el } from "./dom.js";
import { examples, exampleOf, flat, limits, members, operations, referenceName, resolve, typeText } from "./openapi.js";
import { jsonText } from "./json.js";

const SOURCE = new URL("openapi.json", document.baseURI);

/** Paragraphs of a description; `backticks` become code. Other Markdown is left as it is written. */
function prose(text) {
  return String(text ?? "").trim().split(/\n\s*\n/).filter(Boolean).map((paragraph) => el("p", { class: "prose" }, spans(paragraph)));
}

function spans(text) {
  return String(text ?? "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

function codeBlock(text, label) {
  const button = el("button", { class: "button small", type: "button" }, "Copy");
  copies(button, () => text);
  return el("div", { class: "code-block" }, el("div", { class: "code-head" }, el("span", { class: "quiet" }, label), button),
    el("pre", { class: "code wrapped", tabindex: 0, "aria-label": label }, el("code", {}, text)));
}

function tableOf(headings, rows) {
  return el("div", { class: "table-scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, headings.map((heading) => el("th", { scope: "col" }, heading)))),
    el("tbody", {}, rows)));
}

/** One operation, from its heading to its responses. */
function operationCard(api, entry) {
  const { id, method, path, operation, parameters } = entry;
  const body = operation.requestBody ? resolve(api, operation.requestBody) : null;
  return el("article", { id, class: "operation", "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title`, class: "route" }, el("span", { class: "method", "data-method": method }, method), " ", el("code", {}, path),
      operation.deprecated ? el("span", { class: "deprecated" }, "deprecated") : null),
    operation.summary ? el("p", { class: "lead" }, operation.summary) : null,
    prose(operation.description),
    securityNote(api, operation),
    parameters.length ? [el("h3", {}, "Parameters"), parameterTable(api, parameters)] : null,
    body ? [el("h3", {}, "Request body", body.required ? null : el("span", { class: "quiet" }, " optional")), prose(body.description), mediaBlocks(api, body.content, id, entry)]
      : codeBlock(command(api, entry), "curl"),
    el("h3", {}, "Responses"),
    Object.entries(operation.responses ?? {}).map(([status, response]) => responseBlock(api, status, resolve(api, response), `${id}-${status}`)));
}

function securityNote(api, operation) {
  const schemes = (operation.security ?? api.security ?? []).map((one) => Object.keys(one).map((name) => schemeText(api, name)).join(" and ")).filter(Boolean);
  return schemes.length ? el("p", { class: "quiet" }, `Needs ${schemes.join(", or ")}.`) : null;
}

function schemeText(api, name) {
  return api.components?.securitySchemes?.[name]?.description ?? name;
}

function takesKeyHeader(api, operation) {
  const headers = (operation.security ?? api.security ?? []).flatMap((one) => Object.keys(one)).map((name) => api.components?.securitySchemes?.[name]?.name);
  return headers.includes("X-API-Key");
}

function parameterTable(api, parameters) {
  return tableOf(["Name", "In", "Type", "Meaning"], parameters.map((parameter) => {
    const schema = parameter.schema ?? Object.values(parameter.content ?? {})[0]?.schema;
    return el("tr", {},
      el("th", { scope: "row" }, el("code", {}, parameter.name), requiredMark(parameter.required)),
      el("td", {}, parameter.in),
      el("td", {}, typeText(api, schema)),
      meaning(api, schema, parameter.description));
  }));
}

function requiredMark(required) {
  return required ? el("span", { class: "required" }, "required") : null;
}

function meaning(api, schema, description) {
  const bounds = schema ? limits(api, schema) : [];
  return el("td", { class: "meaning" }, spans(description ?? (schema ? flat(api, schema).description : "")),
    bounds.length ? el("span", { class: "limits" }, bounds.join(", ")) : null);
}

/** One block for each content type, with a command for a request's; types described alike share a block. */
function mediaBlocks(api, content, id, entry = null) {
  const groups = new Map();
  Object.entries(content ?? {}).forEach(([type, media]) => {
    const key = JSON.stringify(media);
    groups.set(key, [...(groups.get(key) ?? []), type]);
  });
  return [...groups].map(([key, types]) => mediaBlock(api, types, JSON.parse(key), id, entry));
}

function mediaBlock(api, types, media, id, entry) {
  const textual = types.some((type) => /json/.test(type));
  const rows = media.schema ? members(api, bare(api, media.schema)) : [];
  return el("section", { class: "media", "aria-label": `${types.join(", ")} in ${id}` },
    el("h4", {}, types.map((type) => el("code", { class: "type" }, type)), " ", el("span", { class: "quiet" }, schemaWords(api, types, media.schema))),
    rows.length ? memberTable(api, rows) : null,
    textual ? examples(api, media).map(([title, value]) => codeBlock(typeof value === "string" ? value : jsonText(value), title)) : null,
    entry ? codeBlock(command(api, entry, types[0], media), "curl") : null);
}

// For a list the members of its items are what is worth showing.
function bare(api, schema) {
  const whole = flat(api, schema);
  return whole.items && !whole.properties ? bare(api, whole.items) : schema;
}

function schemaWords(api, types, schema) {
  if (!schema || !Object.keys(schema).length) return types.every((type) => /json/.test(type)) ? "" : "the bytes as they are";
  const whole = flat(api, schema);
  if (whole.format === "binary" || whole.contentMediaType) return "the bytes as they are";
  return referenceName(schema) || typeText(api, schema);
}

function memberTable(api, rows) {
  return tableOf(["Member", "Type", "Meaning"], rows.map(({ name, depth, required, schema }) => el("tr", { "data-level": Math.min(depth, 4) },
    el("th", { scope: "row" }, el("code", {}, name), requiredMark(required)),
    el("td", {}, typeText(api, schema)),
    meaning(api, schema))));
}

function responseBlock(api, status, response, id) {
  const headers = Object.entries(response.headers ?? {});
  const good = /^[123]/.test(status);
  return el("details", { class: "response", open: /^2/.test(status) },
    el("summary", {}, el("code", { class: good ? "status good" : "status bad" }, status), " ", spans(response.description)),
    headers.length ? [el("h4", {}, "Headers"), tableOf(["Name", "Type", "Meaning"], headers.map(([name, node]) => {
      const header = resolve(api, node);
      return el("tr", {}, el("th", { scope: "row" }, el("code", {}, name)), el("td", {}, typeText(api, header.schema)), meaning(api, header.schema, header.description));
    }))] : null,
    mediaBlocks(api, response.content, id));
}

/** A command that makes the request, with a body of this content type. */
function command(api, { method, path, operation, parameters }, type = null, media = null) {
  const valueOf = (parameter) => parameter.example ?? exampleOf(api, parameter.schema ?? {});
  const query = parameters.filter((one) => one.in === "query" && one.required).map((one) => `${encodeURIComponent(one.name)}=${encodeURIComponent(valueOf(one))}`);
  const filled = path.replace(/\{([^}]+)\}/g, (whole, name) => {
    const parameter = parameters.find((one) => one.in === "path" && one.name === name);
    return parameter ? encodeURIComponent(valueOf(parameter)) : whole;
  });
  const base = new URL(api.servers?.[0]?.url ?? ".", SOURCE).href.replace(/\/$/, "");
  const headers = parameters.filter((one) => one.in === "header" && one.required).map((one) => [one.name, String(valueOf(one))]);
  // curl writes the multipart header itself, since only it knows the boundary.
  if (type && type !== "multipart/form-data") headers.push(["Content-Type", type]);
  return anyCommand({ method, url: `${base}${filled}${query.length ? `?${query.join("&")}` : ""}`, headers, withKey: takesKeyHeader(api, operation), ...payload(api, type, media) });
}

function payload(api, type, media) {
  if (!type) return {};
  if (type === "multipart/form-data") {
    const { properties = {} } = flat(api, media.schema ?? {});
    const binary = (schema) => { const { format, contentMediaType } = flat(api, schema); return format === "binary" || contentMediaType; };
    return { form: Object.entries(properties).filter(([, schema]) => binary(schema)).map(([name]) => `${name}=@picture.jpg`) };
  }
  if (/json/.test(type)) return { data: JSON.stringify(examples(api, media)[0]?.[1] ?? {}) };
  return { file: type.startsWith("image/") ? `picture.${type.slice(6).replace("jpeg", "jpg")}` : "file" };
}

function contents(entries) {
  const tags = [...new Set(entries.map(({ tag }) => tag))];
  return tags.flatMap((tag) => [
    tag ? el("h2", {}, tag) : null,
    el("ul", {}, entries.filter((entry) => entry.tag === tag).map(({ id, method, path }) => el("li", {},
      el("a", { href: `#${id}` }, el("span", { class: "method", "data-method": method }, method), " ", el("span", { class: "path" }, path))))),
  ]).filter(Boolean);
}

function show(api) {
  const entries = operations(api);
  document.title = `${api.info?.title ?? "API"} — reference`;
  byId("contents").replaceChildren(...contents(entries));
  byId("document").replaceChildren(
    el("div", { class: "opening" },
      el("h1", {}, api.info?.title ?? "API", api.info?.version ? el("span", { class: "version" }, api.info.version) : null),
      prose(api.info?.summary), prose(api.info?.description)),
    ...entries.map((entry) => operationCard(api, entry)),
    ...(entries.length ? [] : [el("p", { class: "notice" }, "The document describes no operations.")]));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

async function load() {
  try {
    const response = await fetch(SOURCE);
    if (!response.ok) throw new Error(`the server replied ${response.status}`);
    show(await response.json());
  } catch (error) {
    byId("document").replaceChildren(el("p", { class: "notice", role: "alert" }, `The description of the API could not be read: ${error.message}.`));
  } finally {
    byId("document").removeAttribute("aria-busy");
  }
}

load();
