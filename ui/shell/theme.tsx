/** Theme: follows the system until the reader chooses; the choice is remembered in this browser. */
import { ActionIcon, Tooltip, useMantineColorScheme, type MantineColorScheme } from "@mantine/core";

const NEXT: Readonly<Record<MantineColorScheme, MantineColorScheme>> = { auto: "light", light: "dark", dark: "auto" };
const SIGN: Readonly<Record<MantineColorScheme, string>> = {
  auto: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11zM8 2.5v11M8 5.5h4.6M8 8h5.4M8 10.5h4.6",
  light:
    "M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 0 1 0-5.6zM8 1.4v1.5M8 13.1v1.5M1.4 8h1.5M13.1 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1",
  dark: "M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6A5.8 5.8 0 1 0 13.4 9.6z",
};

export const ThemeButton = () => {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const label = `Theme: ${colorScheme === "auto" ? "as the system" : colorScheme}`;
  return (
    <Tooltip label={label} openDelay={300}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size={28}
        aria-label={label}
        onClick={() => setColorScheme(NEXT[colorScheme])}
      >
        <svg
          width="16"
          height="16"
          viewBox="0 0 16 16"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.3"
          strokeLinecap="round"
          strokeLinejoin="round"
          aria-hidden
        >
          <path d={SIGN[colorScheme]} />
        </svg>
      </ActionIcon>
    </Tooltip>
  );
};
