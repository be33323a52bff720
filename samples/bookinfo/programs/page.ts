/** The page of the shop as HTML; nothing here does any I/O. */

export type Answer<T> =
  | { readonly value: T; readonly error?: never }
  | { readonly error: string; readonly value?: never };

export interface Book {
  readonly title: string;
  readonly author: string;
  readonly year: number;
  readonly type: string;
  readonly pages: number;
  readonly publisher: string;
  readonly language: string;
  readonly isbn: string;
}

export interface Reviews {
  readonly version: string;
  readonly pod: string;
  readonly reviews: readonly Review[];
  readonly ratingsError?: string;
}

interface Review {
  readonly reviewer: string;
  readonly text: string;
  readonly rating?: { readonly stars: number; readonly color: string };
}

const MAX_STARS = 5;

const STYLE = `
  :root { color-scheme: light dark; --line: light-dark(#ddd, #444); --dim: light-dark(#666, #aaa); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 3rem auto; padding: 0 1.5rem; }
  h1 { font-size: 2rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 0 0 1rem; }
  .by, .dim { color: var(--dim); } .columns { display: grid; gap: 1.5rem; grid-template-columns: 1fr 1.6fr; margin-top: 2rem; }
  @media (max-width: 44rem) { .columns { grid-template-columns: 1fr; } }
  section { border: 1px solid var(--line); border-radius: 0.6rem; padding: 1.2rem 1.4rem; }
  dl { display: grid; grid-template-columns: auto 1fr; gap: 0.3rem 1rem; margin: 0; } dt { color: var(--dim); } dd { margin: 0; }
  blockquote { margin: 0 0 1.2rem; } blockquote p { margin: 0; } .stars { letter-spacing: 0.15em; }
  .stars.red { color: #d22; } .stars.black { color: light-dark(#111, #eee); }
  .error { border-left: 4px solid #d22; padding-left: 0.8rem; } .badge { font-weight: 600; border: 1px solid var(--line); border-radius: 1rem; padding: 0 0.6rem; }
`;

export function page(details: Answer<Book>, reviews: Answer<Reviews>): string {
  const title = details.value?.title ?? "A book";
  const by =
    details.value === undefined ? "" : `<p class="by">${escape(details.value.author)}, ${details.value.year}</p>`;
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escape(title)}</title><style>${STYLE}</style></head>
<body>
<h1>${escape(title)}</h1>${by}
<div class="columns">
<section id="details"><h2>Book details</h2>${details.value ? detailsBody(details.value) : failure("details", details.error)}</section>
<section id="reviews"><h2>Reviews ${reviews.value ? `<span class="badge">reviews-${escape(reviews.value.version)}</span>` : ""}</h2>${
    reviews.value ? reviewsBody(reviews.value) : failure("reviews", reviews.error)
  }</section>
</div>
<p class="dim">Reload: the versions of reviews take turns.</p>
</body>
</html>
`;
}

function detailsBody(book: Book): string {
  const rows: readonly (readonly [string, string | number])[] = [
    ["ISBN", book.isbn],
    ["Type", book.type],
    ["Pages", book.pages],
    ["Publisher", book.publisher],
    ["Language", book.language],
  ];
  return `<dl>${rows.map(([name, value]) => `<dt>${name}</dt><dd>${escape(String(value))}</dd>`).join("")}</dl>`;
}

function reviewsBody(reviews: Reviews): string {
  const quotes = reviews.reviews.map(
    (review) =>
      `<blockquote><p>${escape(review.text)}</p><span class="dim">${escape(review.reviewer)}</span> ${stars(review)}</blockquote>`,
  );
  const problem = reviews.ratingsError === undefined ? "" : failure("ratings", reviews.ratingsError);
  return `${quotes.join("")}${problem}<p class="dim">served by ${escape(reviews.pod)}</p>`;
}

function stars({ rating }: Review): string {
  if (rating === undefined) return "";
  const full = Math.max(0, Math.min(MAX_STARS, Math.round(rating.stars)));
  return `<span class="stars ${escape(rating.color)}" title="${full} of ${MAX_STARS}">${"★".repeat(full)}${"☆".repeat(MAX_STARS - full)}</span>`;
}

function failure(service: string, reason: string): string {
  return `<p class="error"><strong>${service} is not available.</strong><br><span class="dim">${escape(reason)}</span></p>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
