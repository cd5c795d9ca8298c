/** The search box above a list. */
import { TextInput } from "@mantine/core";

export const FindBox = ({
  value,
  onChange,
  label,
}: {
  readonly value: string;
  readonly onChange: (text: string) => void;
  readonly label: string;
}) => (
  <TextInput
    className="find"
    size="xs"
    placeholder={label}
    aria-label={label}
    value={value}
    onChange={(event) => onChange(event.currentTarget.value)}
    onKeyDown={(event) => {
      if (event.key === "Escape") onChange("");
    }}
  />
);
