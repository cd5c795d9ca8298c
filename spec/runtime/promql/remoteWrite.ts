/** Prometheus' remote_write 1.0 as a sender: one request's protobuf, snappy block format. For tests; the simplest form. */
import { compress } from "snappy";

export interface WrittenSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

const varint = (value: number | bigint): Buffer => {
  const bytes: number[] = [];
  let left = BigInt(value);
  do {
    const low = Number(left & 0x7fn);
    left >>= 7n;
    bytes.push(left > 0n ? low | 0x80 : low);
  } while (left > 0n);
  return Buffer.from(bytes);
};

const field = (number: number, body: Buffer): Buffer =>
  Buffer.concat([varint((number << 3) | 2), varint(body.length), body]);
const text = (number: number, value: string): Buffer => field(number, Buffer.from(value));

const sample = (value: Uint8Array, timeMs: number): Buffer =>
  field(2, Buffer.concat([Buffer.from([0x09]), value, Buffer.from([0x10]), varint(timeMs)]));

/** Samples by their bits, so that a stale marker stays one. */
export const encodeWrite = (series: readonly WrittenSeries[]): Buffer =>
  Buffer.concat(
    series.map(({ labels, times, values }) => {
      const bits = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      const names = Object.keys(labels).sort();
      return field(
        1,
        Buffer.concat([
          ...names.map((name) => field(1, Buffer.concat([text(1, name), text(2, labels[name] ?? "")]))),
          ...Array.from(times, (time, i) => sample(bits.subarray(i * 8, i * 8 + 8), time)),
        ]),
      );
    }),
  );

export const remoteWrite = async (url: string, series: readonly WrittenSeries[]): Promise<void> => {
  const body = new Uint8Array(await compress(encodeWrite(series)));
  const answer = await fetch(`${url}/api/v1/write`, {
    method: "POST",
    headers: {
      "content-type": "application/x-protobuf",
      "content-encoding": "snappy",
      "x-prometheus-remote-write-version": "0.1.0",
    },
    body,
  });
  if (!answer.ok) throw new Error(`remote_write: ${answer.status} ${await answer.text()}`);
};
