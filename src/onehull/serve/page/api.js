// The service's routes. Every failure becomes an Error with a sentence a person can read.

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The ranking service does not answer.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const fault = body?.error;
  const words = fault ? [fault.field, fault.rule].filter(Boolean).join(" ") : `status ${response.status}`;
  throw new Error([`${words}.`, fault?.remedy].filter(Boolean).join(" "));
}

const post = (path, body, signal, keepalive = false) =>
  call(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
    keepalive,
  });

export const about = () => call("/about");
export const formula = () => call("/formula");
export const health = () => call("/healthz");
export const users = (query, limit, signal) =>
  call(`/users?limit=${limit}&q=${encodeURIComponent(query)}`, { signal });
export const rank = (request, signal) => post("/rank", request, signal);
// keepalive: the last seconds of a video still arrive when the page is left.
export const feedback = (event) => post("/events", event, undefined, true);
