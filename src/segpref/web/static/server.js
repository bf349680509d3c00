/** Requests to the server, and answers that it has not acknowledged yet. */

/** An answer other than success; status 0 where there was none. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request can succeed later. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** A response, or a Failure with the server's sentence. */
export async function request(method, path, body, signal = AbortSignal.timeout(30_000)) {
  const options = { method, signal, cache: "no-store", headers: { "X-Segpref": "1" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server does not answer.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Failure(response.status, said.error ?? `The server answered with an error (${response.status}).`);
}

export async function ask(method, path, body) {
  const response = await request(method, path, body);
  return response.status === 204 ? null : response.json();
}

/** 128 random bits as a UUID; crypto.randomUUID does not exist on plain HTTP. */
export function newUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// ------------------------------------------------------------------------------------- answers that are not stored yet

const KEPT = "segpref-answer-";
const memory = new Map(); // for browsers that keep nothing

/** Answers of a rater (of anybody where none is named) that the server has not acknowledged, oldest first. */
export function unstored(rater = null) {
  const found = new Map(memory);
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(KEPT)) found.set(key.slice(KEPT.length), JSON.parse(localStorage.getItem(key)));
    }
  } catch {
    // Storage is switched off: what is in memory is all there is.
  }
  const own = [...found.values()].filter((kept) => rater === null || kept.rater === rater);
  return own.sort((a, b) => (a.body.voted_at < b.body.voted_at ? -1 : 1));
}

/** Opaque ids and the answer only: nothing of a patient is kept in the browser. */
export function keep(kept) {
  memory.set(kept.body.uuid, kept);
  try {
    localStorage.setItem(KEPT + kept.body.uuid, JSON.stringify(kept));
  } catch {
    // In memory it is kept as long as this page is open.
  }
}

export function forget(kept) {
  memory.delete(kept.body.uuid);
  try {
    localStorage.removeItem(KEPT + kept.body.uuid);
  } catch {
    // It was not there.
  }
}
