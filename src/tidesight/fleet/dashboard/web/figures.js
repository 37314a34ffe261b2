// Numbers as people read them.

const NONE = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const number = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits });
const [whole, tenths, hundredths] = [0, 1, 2].map(number);

/** A count or a rate, with as many decimals as matter. */
export function count(value) {
  if (!known(value)) return NONE;
  return (Math.abs(value) >= 100 ? whole : Math.abs(value) >= 10 ? tenths : hundredths).format(value);
}

/** `4 instances`, `1 instance`. */
export function counted(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** Milliseconds, or seconds where they are many. */
export function latency(ms) {
  if (!known(ms)) return NONE;
  return ms >= 1000 ? `${hundredths.format(ms / 1000)} s` : `${(ms >= 10 ? whole : tenths).format(ms)} ms`;
}

/** A length of time: `45 s`, `3 min 05 s`, `2 h 05 min`, `1 d 3 h`. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 10) return `${tenths.format(Math.max(0, seconds))} s`;
  const [s, min, h] = [Math.floor(seconds) % 60, Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600)];
  if (seconds < 60) return `${s} s`;
  if (h >= 24) return `${Math.floor(h / 24)} d ${h % 24} h`;
  return h ? `${h} h ${two(min)} min` : `${min} min ${two(s)} s`;
}

/** A moment since the fleet started: `0:03:05`. */
export function clock(seconds) {
  const total = Math.max(0, Math.floor(seconds));
  return `${Math.floor(total / 3600)}:${two(Math.floor(total / 60) % 60)}:${two(total % 60)}`;
}

/** Memory in MiB, or GiB where it is much. */
export function memory(bytes) {
  if (!known(bytes)) return NONE;
  const mib = bytes / 2 ** 20;
  return mib >= 1024 ? `${hundredths.format(mib / 1024)} GiB` : `${whole.format(mib)} MiB`;
}

/** US dollars, two digits of what is less than a cent. */
export function dollars(usd) {
  if (!known(usd)) return NONE;
  const digits = usd === 0 || usd >= 0.1
    ? { minimumFractionDigits: 2, maximumFractionDigits: 2 }
    : { maximumSignificantDigits: 2 };
  return new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", ...digits }).format(usd);
}

/** A share of a whole: `99.8 %`; never 100 % when something is missing. */
export function share(part, of) {
  if (!of) return NONE;
  const percent = (100 * part) / of;
  return `${tenths.format(part < of ? Math.min(99.9, percent) : percent)} %`;
}

function two(value) {
  return String(value).padStart(2, "0");
}
