/** A row of choices of which one is on; arrow keys move as in any radio group. */
export const Segmented = ({
  label,
  choices,
  value,
  onChange,
}: {
  readonly label: string;
  readonly choices: readonly { readonly value: string; readonly label: string }[];
  readonly value: string;
  readonly onChange: (value: string) => void;
}) => (
  <div className="segmented" role="radiogroup" aria-label={label}>
    {choices.map((choice) => (
      <label key={choice.value} className={choice.value === value ? "segment segment-on" : "segment"}>
        <input
          type="radio"
          className="visually-hidden"
          name={label}
          value={choice.value}
          checked={choice.value === value}
          onChange={() => onChange(choice.value)}
        />
        {choice.label}
      </label>
    ))}
  </div>
);
