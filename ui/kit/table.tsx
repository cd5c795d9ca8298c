/**
 * The one table: sortable columns, rows keyed so that they keep their place, and only the rows in sight in the DOM once
 * there are many. Rows are never moved while the pointer or the focus is in the
 * table ("n new" says what waits). Sort order may live in the address (`sort`, `onSort`), else in the table.
 */
import { useEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { makeOrderKeeper } from "./held-order.ts";

export interface Column<Row> {
  readonly id: string;
  readonly title: ReactNode;
  readonly cell: (row: Row) => ReactNode;
  /** sort value; a column without it is not sortable */
  readonly sort?: (row: Row) => string | number | null;
  readonly align?: "right";
  /** CSS width; without it the column shares what is left */
  readonly width?: string;
  readonly hint?: string;
  /** name of the group above the column; neighbours of one group share a head cell */
  readonly group?: string;
}

export interface Sort {
  readonly column: string;
  readonly down: boolean;
}

interface TableProps<Row> {
  readonly label: string;
  readonly rows: ReadonlyMap<string, Row>;
  readonly columns: readonly Column<Row>[];
  readonly initialSort: Sort;
  readonly sort?: Sort;
  readonly onSort?: (sort: Sort) => void;
  readonly onOpen?: (key: string, row: Row) => void;
  readonly rowClass?: (row: Row) => string;
  readonly paused?: boolean;
  /** rows below this fill the height that is left and scroll by themselves */
  readonly fill?: boolean;
  readonly minWidth?: number;
}

const ROW = 32;
const WINDOWED_FROM = 120;

const compare = (a: string | number | null, b: string | number | null): number => {
  if (a === b) return 0;
  // rows without a figure come last in a falling order and first in a rising one
  if (a === null) return -1;
  if (b === null) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
};

export const sortKeys = <Row,>(
  rows: ReadonlyMap<string, Row>,
  columns: readonly Column<Row>[],
  sort: Sort,
): readonly string[] => {
  const value = columns.find((column) => column.id === sort.column)?.sort;
  const keys = [...rows.keys()].sort();
  if (value === undefined) return keys;
  const values = new Map([...rows].map(([key, row]) => [key, value(row)]));
  const sign = sort.down ? -1 : 1;
  return keys.sort((a, b) => sign * compare(values.get(a) ?? null, values.get(b) ?? null));
};

export const DataTable = <Row,>(props: TableProps<Row>) => {
  const { rows, columns } = props;
  const [ownSort, setOwnSort] = useState(props.initialSort);
  const sort = props.sort ?? ownSort;
  const [inside, setInside] = useState(false);
  const [scroll, setScroll] = useState({ top: 0, height: 800 });
  const box = useRef<HTMLDivElement>(null);
  const [keeper] = useState(() => makeOrderKeeper(() => performance.now()));
  const [, wake] = useState(0);
  const held = keeper.next(rows, `${sort.column} ${String(sort.down)}`, inside || props.paused === true, () =>
    sortKeys(rows, columns, sort),
  );

  const windowed = held.order.length > WINDOWED_FROM;
  useEffect(() => {
    const element = box.current;
    if (element === null || !windowed) return;
    const measure = (): void => setScroll({ top: element.scrollTop, height: element.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, [windowed]);

  const first = windowed ? Math.max(0, Math.floor(scroll.top / ROW) - 10) : 0;
  const last = windowed
    ? Math.min(held.order.length, Math.ceil((scroll.top + scroll.height) / ROW) + 10)
    : held.order.length;

  const setSort = (column: Column<Row>): void => {
    if (column.sort === undefined) return;
    const next = { column: column.id, down: sort.column === column.id ? !sort.down : column.align === "right" };
    if (props.onSort === undefined) setOwnSort(next);
    else props.onSort(next);
  };

  const onKey = (event: KeyboardEvent<HTMLTableRowElement>, key: string, row: Row): void => {
    if (event.target !== event.currentTarget) return;
    const { currentTarget } = event;
    const to =
      event.key === "ArrowDown"
        ? currentTarget.nextElementSibling
        : event.key === "ArrowUp"
          ? currentTarget.previousElementSibling
          : null;
    if (to instanceof HTMLElement) {
      event.preventDefault();
      to.focus();
    } else if (event.key === "Enter") props.onOpen?.(key, row);
  };

  const groups = groupsOf(columns);
  const openable = props.onOpen !== undefined;
  return (
    <div
      ref={box}
      className={`table-box${props.fill === true || windowed ? " table-fill" : ""}`}
      onPointerEnter={() => setInside(true)}
      onPointerLeave={() => setInside(false)}
      onFocus={() => setInside(true)}
      onBlur={() => setInside(false)}
    >
      {held.fresh > 0 ? (
        <button
          type="button"
          className="fresh"
          onClick={() => {
            keeper.release();
            wake((n) => n + 1);
          }}
        >
          {held.fresh} new
        </button>
      ) : null}
      <table
        className="table"
        aria-label={props.label}
        style={props.minWidth === undefined ? undefined : { minWidth: props.minWidth }}
      >
        <colgroup>
          {columns.map((column) => (
            <col key={column.id} style={column.width === undefined ? undefined : { width: column.width }} />
          ))}
        </colgroup>
        <thead>
          {groups === null ? null : (
            <tr className="table-groups">
              {groups.map((group) => (
                <th
                  key={group.start}
                  colSpan={group.span}
                  scope="colgroup"
                  className={group.name === "" ? undefined : "grouped"}
                >
                  {group.name}
                </th>
              ))}
            </tr>
          )}
          <tr>
            {columns.map((column, index) => (
              <th
                key={column.id}
                scope="col"
                title={column.hint}
                className={`${column.align === "right" ? "right" : ""}${startsGroup(columns, index) ? " group-start" : ""}`}
                aria-sort={sort.column === column.id ? (sort.down ? "descending" : "ascending") : undefined}
              >
                {column.sort === undefined ? (
                  column.title
                ) : (
                  <button type="button" onClick={() => setSort(column)}>
                    {column.title}
                    {sort.column === column.id ? (
                      <span className="sort-mark" aria-hidden>
                        {sort.down ? "↓" : "↑"}
                      </span>
                    ) : null}
                  </button>
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 ? <tr aria-hidden style={{ height: first * ROW }} /> : null}
          {held.order.slice(first, last).map((key) => {
            const row = rows.get(key);
            if (row === undefined) return null;
            return (
              <tr
                key={key}
                className={`${props.rowClass?.(row) ?? ""}${openable ? " openable" : ""}`}
                {...(openable
                  ? {
                      tabIndex: 0,
                      onClick: (event) => {
                        if (event.target instanceof Element && event.target.closest("a,button") === null)
                          props.onOpen?.(key, row);
                      },
                      onKeyDown: (event) => onKey(event, key, row),
                    }
                  : {})}
              >
                {columns.map((column, index) => (
                  <td
                    key={column.id}
                    className={`${column.align === "right" ? "right" : ""}${startsGroup(columns, index) ? " group-start" : ""}`}
                  >
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
          {last < held.order.length ? <tr aria-hidden style={{ height: (held.order.length - last) * ROW }} /> : null}
        </tbody>
      </table>
    </div>
  );
};

const startsGroup = <Row,>(columns: readonly Column<Row>[], index: number): boolean =>
  index > 0 && (columns[index]?.group ?? "") !== (columns[index - 1]?.group ?? "");

const groupsOf = <Row,>(
  columns: readonly Column<Row>[],
): readonly { name: string; start: number; span: number }[] | null => {
  if (!columns.some((column) => column.group !== undefined)) return null;
  const groups: { name: string; start: number; span: number }[] = [];
  for (const [index, column] of columns.entries()) {
    const name = column.group ?? "";
    const previous = groups[groups.length - 1];
    if (previous !== undefined && previous.name === name) previous.span++;
    else groups.push({ name, start: index, span: 1 });
  }
  return groups;
};
