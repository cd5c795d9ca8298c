/** Tells the server something: one request, and what is wrong in the server's own words. */

export type Outcome = { readonly ok: true; readonly answer: unknown } | { readonly ok: false; readonly error: string };

const sentence = (answer: unknown, status: number): string =>
  typeof answer === "object" && answer !== null && "message" in answer && typeof answer.message === "string"
    ? answer.message
    : `the server answered ${status}`;

export const command = async (
  method: "GET" | "POST" | "DELETE",
  path: string,
  options: { readonly body?: object; readonly adminKey?: string } = {},
): Promise<Outcome> => {
  try {
    const response = await fetch(path, {
      method,
      headers: {
        accept: "application/json",
        ...(options.body === undefined ? {} : { "content-type": "application/json" }),
        ...(options.adminKey === undefined ? {} : { authorization: `Bearer ${options.adminKey}` }),
      },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    });
    const answer: unknown = await response.json();
    return response.ok ? { ok: true, answer } : { ok: false, error: sentence(answer, response.status) };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
};
