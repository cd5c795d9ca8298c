/** Signs and words used everywhere: status, type of a service, link to a service, figures with their labels. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { HealthStatus, ServiceId } from "../../schemas/service.ts";
import { partsOf, toSplat } from "../names.ts";
import { STATUS_GLYPH, STATUS_WORD, typeGlyph, type Glyph } from "./glyphs.ts";

const Drawn = ({ glyph, size, label }: { readonly glyph: Glyph; readonly size: number; readonly label?: string }) => (
  <svg
    className="glyph"
    width={size}
    height={size}
    viewBox="0 0 16 16"
    fill={glyph.stroke > 0 ? "none" : "currentColor"}
    stroke={glyph.stroke > 0 ? "currentColor" : "none"}
    strokeWidth={glyph.stroke}
    strokeLinecap="round"
    strokeLinejoin="round"
    {...(label === undefined ? { "aria-hidden": true } : { role: "img", "aria-label": label })}
  >
    <path d={glyph.path} />
  </svg>
);

export const StatusSign = ({ status, size = 12 }: { readonly status: HealthStatus; readonly size?: number }) => (
  <span className={`status status-${status}`} title={STATUS_WORD[status]}>
    <Drawn glyph={STATUS_GLYPH[status]} size={size} label={STATUS_WORD[status]} />
  </span>
);

export const StatusBadge = ({ status, text }: { readonly status: HealthStatus; readonly text?: string }) => (
  <span className={`badge badge-${status}`}>
    <Drawn glyph={STATUS_GLYPH[status]} size={11} />
    {text ?? STATUS_WORD[status]}
  </span>
);

export const TypeSign = ({
  type,
  kind,
  size = 14,
}: {
  readonly type: string;
  readonly kind: string;
  readonly size?: number;
}) => (
  <span className="type-sign" title={type || kind}>
    <Drawn glyph={typeGlyph(type, kind)} size={size} />
  </span>
);

export const ServiceLink = ({
  id,
  name,
  className,
}: {
  readonly id: ServiceId | string;
  readonly name?: string;
  readonly className?: string;
}) => (
  <Link to="/service/$" params={{ _splat: toSplat(id) }} className={className ?? "link"} title={id}>
    {name ?? partsOf(id).name}
  </Link>
);

export const ActorLink = ({ path, children }: { readonly path: string; readonly children?: ReactNode }) => (
  <Link to="/console/$" params={{ _splat: toSplat(path) }} className="link mono" title={path}>
    {children ?? path}
  </Link>
);

/** A label above its figure; `tone` colours the figure when it is the bad news. */
export const Figure = ({
  label,
  children,
  tone,
  title,
}: {
  readonly label: string;
  readonly children: ReactNode;
  readonly tone?: HealthStatus | undefined;
  readonly title?: string;
}) => (
  <div className="figure" title={title}>
    <div className="figure-label">{label}</div>
    <div
      className={
        tone === undefined || tone === "ok" || tone === "unknown" ? "figure-value" : `figure-value tone-${tone}`
      }
    >
      {children}
    </div>
  </div>
);

export const Section = ({
  title,
  aside,
  children,
  className,
}: {
  readonly title: ReactNode;
  readonly aside?: ReactNode;
  readonly children: ReactNode;
  readonly className?: string;
}) => (
  <section className={className === undefined ? "section" : `section ${className}`}>
    <header className="section-head">
      <h2>{title}</h2>
      {aside === undefined ? null : <div className="section-aside">{aside}</div>}
    </header>
    {children}
  </section>
);

/** Says what is not here, why, and what makes it appear. */
export const Empty = ({ title, children }: { readonly title: string; readonly children?: ReactNode }) => (
  <div className="empty" role="status">
    <div className="empty-title">{title}</div>
    {children === undefined ? null : <div className="empty-text">{children}</div>}
  </div>
);
