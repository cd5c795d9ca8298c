/** Messages of remote_write 1.0 and 2.0 by protobufjs, the oracle of the specs. Sources: prompb of Prometheus 2.42, and https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ */
import { parse } from "protobufjs";

const { root } = parse(
  `syntax = "proto3";
message WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
message MetricMetadata { int32 type = 1; string metric_family_name = 2; string help = 4; string unit = 5; }
message Sample { double value = 1; int64 timestamp = 2; }
message Label { string name = 1; string value = 2; }
message Exemplar { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
message Histogram { uint64 count_int = 1; double sum = 3; sint32 schema = 4; int64 timestamp = 15; }
message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }

message Request { repeated string symbols = 4; repeated TimeSeries2 timeseries = 5; }
message Exemplar2 { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
message Metadata { int32 type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
message TimeSeries2 { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3;
  repeated Exemplar2 exemplars = 4; Metadata metadata = 5; int64 created_timestamp = 6; }`,
  { keepCase: false },
);
const v1 = root.lookupType("WriteRequest");
const v2 = root.lookupType("Request");

export interface PlainSample {
  readonly value: number;
  readonly timestamp: number;
}

export interface PlainSeries {
  readonly labels: readonly { readonly name: string; readonly value: string }[];
  readonly samples: readonly PlainSample[];
}

export const encode1 = (request: object): Buffer => Buffer.from(v1.encode(v1.fromObject(request)).finish());

export const decode1 = (bytes: Uint8Array): { timeseries: PlainSeries[] } =>
  v1.toObject(v1.decode(bytes), { longs: Number, arrays: true, defaults: true }) as { timeseries: PlainSeries[] };

export const encodeRaw2 = (request: object): Buffer => Buffer.from(v2.encode(v2.fromObject(request)).finish());

/** The same series with a table of symbols. */
export const encode2 = (series: readonly PlainSeries[]): Buffer => {
  const symbols = new Map([["", 0]]);
  const ref = (text: string): number => {
    const known = symbols.get(text) ?? symbols.size;
    symbols.set(text, known);
    return known;
  };
  const timeseries = series.map(({ labels, ...rest }) => ({
    ...rest,
    labelsRefs: labels.flatMap(({ name, value }) => [ref(name), ref(value)]),
    metadata: { type: 1, helpRef: 0, unitRef: 0 },
    createdTimestamp: 5,
  }));
  return encodeRaw2({ symbols: [...symbols.keys()], timeseries });
};

/** Label set as remote_write has it. */
export const labelsOf = (name: string, labels: Readonly<Record<string, string>> = {}): PlainSeries["labels"] => [
  { name: "__name__", value: name },
  ...Object.entries(labels).map(([key, value]) => ({ name: key, value })),
];
