/** Search, filters and view buttons above the map. */
import { ActionIcon, Checkbox, Popover, Tooltip } from "@mantine/core";
import type { ReactNode } from "react";
import { formatClock } from "../format.ts";
import { FindBox } from "../kit/find-box.tsx";
import { plural } from "../names.ts";
import type { MapFilter, Scene } from "./scene.ts";

interface ToolbarProps {
  readonly scene: Scene;
  readonly filter: MapFilter;
  readonly onFind: (text: string) => void;
  readonly onFindNext: () => void;
  readonly onNamespaces: (chosen: readonly string[]) => void;
  readonly onKinds: (chosen: readonly string[]) => void;
  readonly onZoom: (factor: number) => void;
  readonly onFit: () => void;
  readonly onTidy: () => void;
  /** moment that the map shows, ms; null: now */
  readonly at: number | null;
  readonly onAt: (at: number | null) => void;
}

const MINUTE_MS = 60_000;
const MOMENTS = [
  [15, "15 min ago"],
  [60, "1 h ago"],
  [120, "2 h ago"],
  [360, "6 h ago"],
] as const;

/** The address keeps the moment itself, so that it can be shared. */
const momentOf = (minutes: string): number | null =>
  minutes === "" ? null : (Math.floor(Date.now() / MINUTE_MS) - Number(minutes)) * MINUTE_MS;

export const Toolbar = (props: ToolbarProps) => {
  const { scene, filter } = props;
  return (
    <div className="toolbar" role="toolbar" aria-label="Map">
      <FindBox
        label="Find on the map"
        value={filter.find}
        onChange={props.onFind}
        onEnter={props.onFindNext}
        aside={
          scene.matches === null ? null : (
            <span className="quiet num">{plural(scene.matches.size, "match", "matches")}</span>
          )
        }
      />
      <Choice label="Namespace" all={scene.namespaces} chosen={filter.namespaces} onChange={props.onNamespaces} />
      <Choice label="Kind" all={scene.kinds} chosen={filter.kinds} onChange={props.onKinds} />
      <span className="quiet num toolbar-count">
        {plural(scene.cards.size, "service")}, {plural(scene.edges.size, "link")}
        {scene.hidden > 0 ? `, ${scene.hidden} hidden by filter` : ""}
      </span>
      <span className="spacer" />
      <select
        className={props.at === null ? "choice" : "choice choice-on"}
        aria-label="Moment that the map shows"
        title="who called whom then, without figures"
        value={props.at === null ? "" : "then"}
        onChange={(event) => props.onAt(momentOf(event.target.value))}
      >
        <option value="">Now</option>
        {props.at === null ? null : <option value="then">{formatClock(props.at)}</option>}
        {MOMENTS.map(([minutes, title]) => (
          <option key={title} value={minutes}>
            {title}
          </option>
        ))}
      </select>
      <Button label="Tidy: arrange all services anew" onClick={props.onTidy}>
        <path d="M2.5 3.5h4v3h-4zM2.5 9.5h4v3h-4zM9.5 6.5h4v3h-4zM6.5 5h1.5v6H6.5M8 8h1.5" />
      </Button>
      <Button label="Fit all into view (0)" onClick={props.onFit}>
        <path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" />
      </Button>
      <Button label="Zoom out (−)" onClick={() => props.onZoom(0.8)}>
        <path d="M3.5 8h9" />
      </Button>
      <Button label="Zoom in (+)" onClick={() => props.onZoom(1.25)}>
        <path d="M3.5 8h9M8 3.5v9" />
      </Button>
    </div>
  );
};

const Button = ({
  label,
  onClick,
  children,
}: {
  readonly label: string;
  readonly onClick: () => void;
  readonly children: ReactNode;
}) => (
  <Tooltip label={label} openDelay={400}>
    <ActionIcon variant="default" size={28} aria-label={label} onClick={onClick}>
      <svg
        width="16"
        height="16"
        viewBox="0 0 16 16"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.3"
        strokeLinecap="round"
        aria-hidden
      >
        {children}
      </svg>
    </ActionIcon>
  </Tooltip>
);

const name = (value: string): string => (value === "" || value === "_" ? "(none)" : value);

/** Which values of a field are shown; none chosen = all. */
export const Choice = ({
  label,
  all,
  chosen,
  onChange,
}: {
  readonly label: string;
  readonly all: readonly string[];
  readonly chosen: ReadonlySet<string>;
  readonly onChange: (chosen: readonly string[]) => void;
}) => {
  if (all.length < 2 && chosen.size === 0) return null;
  const shown =
    chosen.size === 0 ? "all" : chosen.size === 1 ? name([...chosen][0] ?? "") : `${chosen.size} of ${all.length}`;
  return (
    <Popover position="bottom-start" shadow="md" width={230}>
      <Popover.Target>
        <button type="button" className={chosen.size === 0 ? "choice" : "choice choice-on"}>
          {label}: <b>{shown}</b>
          <span className="caret caret-open" aria-hidden />
        </button>
      </Popover.Target>
      <Popover.Dropdown className="choice-list">
        {[...new Set([...all, ...chosen])].map((value) => (
          <Checkbox
            key={value}
            size="xs"
            label={name(value)}
            checked={chosen.has(value)}
            onChange={(event) =>
              onChange(
                event.currentTarget.checked ? [...chosen, value] : [...chosen].filter((other) => other !== value),
              )
            }
          />
        ))}
        <button type="button" className="link" disabled={chosen.size === 0} onClick={() => onChange([])}>
          Show all
        </button>
      </Popover.Dropdown>
    </Popover>
  );
};
