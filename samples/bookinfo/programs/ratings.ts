import { sendJson, serve } from "./serve.ts";

/** Stars by reviewer. */
const RATINGS = { Ariel: 5, Caliban: 3 };

serve("ratings", (path, response) => {
  if (path !== "/ratings/0") return sendJson(response, 404, { error: "no such book" });
  sendJson(response, 200, { id: 0, ratings: RATINGS });
});
