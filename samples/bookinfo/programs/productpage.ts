import { type Answer, type Book, page, type Reviews } from "./page.ts";
import { getJson, sendJson, serve } from "./serve.ts";

/** The front of the shop: asks `details` and `reviews` by their service names and shows what came, or why nothing came. */
const DETAILS_URL = process.env.DETAILS_URL ?? "http://details:9080/details/0";
const REVIEWS_URL = process.env.REVIEWS_URL ?? "http://reviews:9080/reviews/0";

serve("productpage", async (path, response) => {
  if (path === "/") return void response.writeHead(302, { location: "/productpage" }).end();
  if (path !== "/productpage" && path !== "/api/v1/products/0")
    return sendJson(response, 404, { error: "no such page" });
  const [details, reviews] = await Promise.all([ask<Book>(DETAILS_URL), ask<Reviews>(REVIEWS_URL)]);
  if (path === "/api/v1/products/0") return sendJson(response, 200, { details, reviews });
  response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" });
  response.end(page(details, reviews));
});

async function ask<T>(url: string): Promise<Answer<T>> {
  try {
    return { value: (await getJson(url)) as T };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    console.error(`${url}: ${reason}`);
    return { error: reason };
  }
}
