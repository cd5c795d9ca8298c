/** Services without any call, kept below the map in one line that opens: they exist, but nobody was seen talking to them. */
import { useState } from "react";
import { ServiceLink, StatusSign } from "../kit/signs.tsx";
import type { ServiceCard } from "../../schemas/wire/page.ts";
import { plural } from "../names.ts";

export const Shelf = ({ cards }: { readonly cards: readonly ServiceCard[] }) => {
  const [open, setOpen] = useState(false);
  if (cards.length === 0) return null;
  const troubled = cards.filter((card) => card.status === "warning" || card.status === "critical");
  return (
    <section className={open ? "shelf shelf-open" : "shelf"} aria-label="Services without traffic">
      <button type="button" className="shelf-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span className={open ? "caret caret-open" : "caret"} aria-hidden />
        <b>{plural(cards.length, "service")}</b> with no traffic seen
        {troubled.length > 0 ? <span className="tone-warning">, {troubled.length} in trouble</span> : null}
      </button>
      <div className="shelf-chips">
        {(open ? cards : troubled.slice(0, 6)).map((card) => (
          <span key={card.id} className="chip">
            <StatusSign status={card.status} size={9} />
            <ServiceLink id={card.id} name={card.name} />
          </span>
        ))}
      </div>
    </section>
  );
};
