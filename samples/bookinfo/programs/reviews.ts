import { getJson, sendJson, serve } from "./serve.ts";

/**
 * Three versions in one program, chosen by VERSION: v1 knows nothing of stars; v2 and v3 ask `ratings` for them and differ
 * in their colour.
 */
type Version = "v1" | "v2" | "v3";

const RATINGS_URL = process.env.RATINGS_URL ?? "http://ratings:9080/ratings/0";
const STAR_COLOURS = { v2: "black", v3: "red" } as const;

const TEXTS = [
  { reviewer: "Ariel", text: "Wind, wreck and a happy ending. I would do it all again, if asked politely." },
  { reviewer: "Caliban", text: "Too much magic, and nobody asks whose island it was. The songs are good." },
];

const version = versionFrom(process.env.VERSION);

serve(`reviews ${version}`, async (path, response) => {
  if (path !== "/reviews/0") return sendJson(response, 404, { error: "no such book" });
  const served = { id: 0, version, pod: process.env.POD_NAME ?? "" };
  if (version === "v1") return sendJson(response, 200, { ...served, reviews: TEXTS });
  const color = STAR_COLOURS[version];
  try {
    const { ratings } = (await getJson(RATINGS_URL)) as { ratings: Record<string, number> };
    const reviews = TEXTS.map((review) => ({ ...review, rating: { stars: ratings[review.reviewer] ?? 0, color } }));
    sendJson(response, 200, { ...served, reviews });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    console.error(`ratings: ${reason}`);
    sendJson(response, 200, { ...served, reviews: TEXTS, ratingsError: reason });
  }
});

function versionFrom(text: string | undefined): Version {
  if (text !== "v1" && text !== "v2" && text !== "v3") {
    console.error(`VERSION must be v1, v2 or v3, not "${text ?? ""}"`);
    process.exit(2);
  }
  return text;
}
