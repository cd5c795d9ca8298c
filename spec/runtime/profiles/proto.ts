/**
 * pprof's message, read by protobufjs: the oracle of the specs, and what makes their profiles. Field numbers as in
 * github.com/google/pprof/proto/profile.proto.
 */
import { parse } from "protobufjs";

const TEXT = `
syntax = "proto3";
message Profile {
  repeated ValueType sample_type = 1; repeated Sample sample = 2; repeated Mapping mapping = 3; repeated Location location = 4;
  repeated Function function = 5; repeated string string_table = 6; int64 drop_frames = 7; int64 keep_frames = 8;
  int64 time_nanos = 9; int64 duration_nanos = 10; ValueType period_type = 11; int64 period = 12; repeated int64 comment = 13;
  int64 default_sample_type = 14;
}
message ValueType { int64 type = 1; int64 unit = 2; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; repeated Label label = 3; }
message Label { int64 key = 1; int64 str = 2; int64 num = 3; int64 num_unit = 4; }
message Mapping { uint64 id = 1; uint64 memory_start = 2; uint64 memory_limit = 3; uint64 file_offset = 4; int64 filename = 5;
  int64 build_id = 6; bool has_functions = 7; }
message Location { uint64 id = 1; uint64 mapping_id = 2; uint64 address = 3; repeated Line line = 4; bool is_folded = 5; }
message Line { uint64 function_id = 1; int64 line = 2; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; int64 start_line = 5; }
`;

const Profile = parse(TEXT, { keepCase: false }).root.lookupType("Profile");

type Id = number | string;

/** As protobufjs takes it, and gives it with numbers of 64 bits as texts. */
export interface ProfileMessage {
  readonly sampleType?: readonly { readonly type?: Id; readonly unit?: Id }[];
  readonly sample?: readonly {
    readonly locationId?: readonly Id[];
    readonly value?: readonly Id[];
    readonly label?: readonly { readonly key?: Id; readonly str?: Id; readonly num?: Id }[];
  }[];
  readonly mapping?: readonly {
    readonly id?: Id;
    readonly memoryStart?: Id;
    readonly fileOffset?: Id;
    readonly filename?: Id;
  }[];
  readonly location?: readonly {
    readonly id?: Id;
    readonly mappingId?: Id;
    readonly address?: Id;
    readonly line?: readonly { readonly functionId?: Id; readonly line?: Id }[];
  }[];
  readonly function?: readonly {
    readonly id?: Id;
    readonly name?: Id;
    readonly systemName?: Id;
    readonly filename?: Id;
  }[];
  readonly stringTable?: readonly string[];
  readonly timeNanos?: Id;
  readonly durationNanos?: Id;
}

export const encodeMessage = (message: ProfileMessage): Buffer =>
  Buffer.from(Profile.encode(Profile.fromObject(message)).finish());

export const decodeMessage = (bytes: Buffer): ProfileMessage =>
  Profile.toObject(Profile.decode(bytes), { longs: String }) as ProfileMessage;

/** What a profile says, as an oracle reads it: values by type, stack (root first) and text labels. */
export const meaning = (message: ProfileMessage): ReadonlyMap<string, bigint> => {
  const strings = message.stringTable ?? [];
  const text = (index: Id | undefined): string => strings[Number(index ?? 0)] ?? "";
  const functions = new Map((message.function ?? []).map((one) => [String(one.id ?? 0), one]));
  const mappings = new Map((message.mapping ?? []).map((one) => [String(one.id ?? 0), one]));
  const frames = new Map<string, readonly string[]>();
  for (const { id, address, mappingId, line } of message.location ?? []) {
    const named = (line ?? []).flatMap(({ functionId, line: at }) => {
      const one = functions.get(String(functionId ?? 0));
      if (one === undefined) return [];
      const name = (text(one.name) || text(one.systemName) || "[unknown]").replaceAll("\t", " ");
      const file = text(one.filename);
      const where = Number(at ?? 0) > 0 ? `:${at}` : "";
      return [file === "" ? name : `${name}\t${file}${where}`];
    });
    const mapping = mappings.get(String(mappingId ?? 0));
    const file = text(mapping?.filename).split("/").at(-1) ?? "";
    const offset = BigInt(address ?? 0) - BigInt(mapping?.memoryStart ?? 0) + BigInt(mapping?.fileOffset ?? 0);
    const at = BigInt(address ?? 0) > 0n && offset >= 0n ? `+0x${offset.toString(16)}` : "";
    const nameless = mapping === undefined || text(mapping.filename) === "" ? "[unknown]" : `${file}${at}`;
    frames.set(String(id ?? 0), named.length > 0 ? named.reverse() : [nameless]);
  }
  const out = new Map<string, bigint>();
  for (const { locationId, value, label } of message.sample ?? []) {
    const stack = [...(locationId ?? [])].reverse().flatMap((id) => frames.get(String(id)) ?? []);
    const labels = (label ?? [])
      .filter(({ str }) => Number(str ?? 0) > 0)
      .map(({ key, str }) => [text(key), text(str)]);
    for (const [i, { type, unit }] of (message.sampleType ?? []).entries()) {
      const name = text(type).includes(":") || text(unit) === "" ? text(type) : `${text(type)}:${text(unit)}`;
      const key = JSON.stringify([name, stack, labels]);
      if (text(type) !== "") out.set(key, (out.get(key) ?? 0n) + BigInt(value?.[i] ?? 0));
    }
  }
  return new Map(
    [...out].map(([key, value]) => [key, BigInt.asIntN(64, value)] as const).filter(([, value]) => value !== 0n),
  );
};
