/**
 * The search box above a list. What is typed goes to the address at once; while the box has the focus the address does
 * not write back into it, so a slow navigation cannot swallow letters.
 */
import { TextInput } from "@mantine/core";
import { useState, type ReactNode } from "react";

export const FindBox = ({
  value,
  onChange,
  onEnter,
  label,
  aside,
}: {
  readonly value: string;
  readonly onChange: (text: string) => void;
  readonly onEnter?: () => void;
  readonly label: string;
  readonly aside?: ReactNode;
}) => {
  const [typed, setTyped] = useState<string | null>(null);
  const change = (text: string): void => {
    setTyped(text);
    onChange(text);
  };
  return (
    <TextInput
      className="find"
      size="xs"
      placeholder={label}
      aria-label={label}
      value={typed ?? value}
      onChange={(event) => change(event.currentTarget.value)}
      onBlur={() => setTyped(null)}
      onKeyDown={(event) => {
        if (event.key === "Escape") change("");
        if (event.key === "Enter") onEnter?.();
      }}
      {...(aside === undefined ? {} : { rightSectionWidth: 76, rightSection: aside })}
    />
  );
};
