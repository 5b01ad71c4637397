// Requests to the server, with its token, upload progress and a real abort.

const TOKEN = "froster-token";

export class ServerError extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

let askToken = async () => null;
let asking = null;

/** `ask(rejected)` resolves to the token that the user typed, or to null. */
export function onTokenNeeded(ask) {
  askToken = ask;
}

/** The JSON answer; asks for the token and repeats the request when the server answers 401. */
export async function request(path, { body = null, signal = null, onUpload = null } = {}) {
  for (;;) {
    const used = sessionStorage.getItem(TOKEN);
    try {
      return await send(path, used, body, signal, onUpload);
    } catch (error) {
      if (error.status !== 401) throw error;
      // Several requests meet the 401 at once at the start: they share one question.
      if (sessionStorage.getItem(TOKEN) === used) {
        asking ??= askToken(used !== null).finally(() => { asking = null; });
        const token = await asking;
        if (!token) throw error;
        sessionStorage.setItem(TOKEN, token);
      }
      if (signal?.aborted) throw new DOMException("cancelled", "AbortError");
    }
  }
}

// XMLHttpRequest rather than fetch: only it tells how much of an upload is sent.
function send(path, token, body, signal, onUpload) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new DOMException("cancelled", "AbortError"));
    const call = new XMLHttpRequest();
    call.open(body ? "POST" : "GET", path);
    call.setRequestHeader("Accept", "application/json");
    if (token) call.setRequestHeader("Authorization", `Bearer ${token}`);
    if (onUpload) {
      call.upload.onprogress = (event) => onUpload(event.lengthComputable ? event.loaded / event.total : null);
      call.upload.onload = () => onUpload(1);
    }
    const abort = () => call.abort();
    signal?.addEventListener("abort", abort, { once: true });
    call.onloadend = () => signal?.removeEventListener("abort", abort);
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    call.onerror = () => reject(new ServerError(0, "no_answer", "The server does not answer.", null));
    call.onload = () => {
      let answer = null;
      try {
        answer = JSON.parse(call.responseText);
      } catch {
        // Something before the server may answer with a page of its own; the status says enough.
      }
      if (call.status >= 200 && call.status < 300 && answer) return resolve(answer);
      const { code = "unknown", message = `The server answered with status ${call.status}.` } = answer?.error ?? {};
      reject(new ServerError(call.status, code, message, Number(call.getResponseHeader("Retry-After")) || null));
    };
    call.send(body);
  });
}

const ADVICE = {
  no_answer: "Is froster serve still running? If it is on another machine, is the network there?",
  file_too_large: "Take a smaller file, or a part of the video.",
  video_too_long: "Take a shorter part of the video.",
  too_many_labels: "Remove some labels.",
  no_labels: "Add at least one label.",
  unreadable_video: "Try another file, or save it again as MP4.",
  unknown_model: "Choose another model.",
  unauthorized: "Try again, and type the token that froster serve printed.",
};

/** What a person can do about an error. */
export function advice(error) {
  if (error.code === "queue_full") {
    return error.retryAfter ? `Try again in ${error.retryAfter} s.` : "Try again in a moment.";
  }
  return ADVICE[error.code] ?? (error.status >= 500 ? "Try again; the server's log says more." : "");
}
