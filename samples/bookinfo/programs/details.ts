import { sendJson, serve } from "./serve.ts";

/** What is known about the one book of the shop. */
const BOOK = {
  id: 0,
  title: "The Tempest",
  author: "William Shakespeare",
  year: 1611,
  type: "paperback",
  pages: 192,
  publisher: "Island Press",
  language: "English",
  isbn: "978-0-00-000000-2",
};

serve("details", (path, response) => {
  if (path !== "/details/0") return sendJson(response, 404, { error: "no such book" });
  sendJson(response, 200, BOOK);
});
