/** Requests as they are on the wire, built by their protocols' specifications, each with the name that its span must have. */
import { type ProtocolName } from "../../../../schemas/wire/observe.ts";

export interface Labelled {
  readonly protocol: ProtocolName;
  readonly bytes: Buffer;
  readonly name: string;
  /** texts that must not get into the span */
  readonly secrets?: readonly string[];
}

const u8 = (...values: readonly number[]): Buffer => Buffer.from(values);
const u16 = (value: number): Buffer => u8((value >> 8) & 255, value & 255);
const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
const le32 = (value: number): Buffer => Buffer.from(u32(value).toReversed());
const all = (...parts: readonly (Buffer | string)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : part)));
const z = (text: string): string => `${text}\0`;

const http = (line: string, ...headers: readonly string[]): Buffer =>
  all([line, "Host: shop.test:8080", ...headers, "", ""].join("\r\n"));
export const pgMessage = (type: string, ...body: readonly (Buffer | string)[]): Buffer => {
  const bytes = all(...body);
  return all(type, u32(bytes.length + 4), bytes);
};
export const pgQuery = (sql: string): Buffer => pgMessage("Q", z(sql));
export const pgExtended = (name: string, sql: string): Buffer =>
  all(
    pgMessage("P", z(name), z(sql), u16(0)),
    pgMessage("B", z(""), z(name), u16(0), u16(1), u32(3), "bob", u16(0)),
    pgMessage("D", "P\0"),
    pgMessage("E", z(""), u32(0)),
    pgMessage("S"),
  );
export const mysqlCommand = (command: number, ...body: readonly (Buffer | string)[]): Buffer => {
  const bytes = all(u8(command), ...body);
  return all(u8(bytes.length & 255, bytes.length >> 8, 0, 0), bytes);
};
export const resp = (...words: readonly string[]): Buffer =>
  all(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`);
const mongo = (command: string, collection: string): Buffer => {
  const fields = all(
    u8(2),
    z(command),
    le32(collection.length + 1),
    z(collection),
    u8(2),
    z("$db"),
    le32(5),
    z("shop"),
    u8(0),
  );
  const body = all(le32(0), u8(0), le32(fields.length + 4), fields);
  return all(le32(body.length + 16), le32(7), le32(0), le32(2013), body);
};
const kafka = (call: number, version: number, ...body: readonly (Buffer | string)[]): Buffer => {
  const bytes = all(u16(call), u16(version), u32(42), u16(4), "test", ...body);
  return all(u32(bytes.length), bytes);
};
const compact = (text: string): Buffer => all(u8(text.length + 1), text);
const cql = (opcode: number, text: string): Buffer =>
  all(u8(4, 0), u16(1), u8(opcode), u32(text.length + 7), u32(text.length), text, u16(1), u8(0));
const amqp = (kind: number, method: number, ...body: readonly (Buffer | string)[]): Buffer => {
  const bytes = all(u16(kind), u16(method), ...body);
  return all(u8(1), u16(1), u32(bytes.length), bytes, u8(0xce));
};
const short = (text: string): Buffer => all(u8(text.length), text);
const zk = (type: number, path: string): Buffer => {
  const bytes = all(u32(5), u32(type), u32(path.length), path, u8(0));
  return all(u32(bytes.length), bytes);
};
const dubbo = (service: string, method: string): Buffer => {
  const body = all(
    ...["2.0.2", service, "0.0.0", method].map((text) =>
      text.length < 32 ? short(text) : all(u8(0x30, text.length), text),
    ),
  );
  return all(u8(0xda, 0xbb, 0xc2, 0), u32(0), u32(9), u32(body.length), body);
};
const memcachedGet = (key: string): Buffer =>
  all(u8(0x80, 0), u16(key.length), u8(0, 0), u16(0), u32(key.length), u32(1), u32(0), u32(0), key);

export const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
export const PARENT_ID = "b7ad6b7169203331";

export const CORPUS: readonly Labelled[] = [
  {
    protocol: "http",
    bytes: http("GET /users/42/orders?token=hush HTTP/1.1"),
    name: "GET /users/{id}/orders",
    secrets: ["hush", "42"],
  },
  {
    protocol: "http",
    bytes: http("POST /v1/carts/0b5a9f8e-6d2b-4a53-9d21-1b8b3c9d7e11 HTTP/1.1", "Content-Length: 0"),
    name: "POST /v1/carts/{uuid}",
  },
  {
    protocol: "http",
    bytes: http("GET http://shop.test/static/app.3f9a8b7c6d5e.js HTTP/1.1"),
    name: "GET /static/app.{id}f{id}a{id}b{id}c{id}d{id}e.js",
  },
  { protocol: "http", bytes: http("HEAD / HTTP/1.0", `traceparent: 00-${TRACE_ID}-${PARENT_ID}-01`), name: "HEAD /" },
  {
    protocol: "http",
    bytes: http("DELETE /mail/bob@shop.test HTTP/1.1"),
    name: "DELETE /mail/{email}",
    secrets: ["bob"],
  },
  { protocol: "http", bytes: http("OPTIONS * HTTP/1.1"), name: "OPTIONS *" },
  {
    protocol: "postgres",
    bytes: pgQuery("SELECT name FROM users WHERE id = 42 AND mail = 'bob@shop.test'"),
    name: "SELECT users",
    secrets: ["42", "bob"],
  },
  {
    protocol: "postgres",
    bytes: pgExtended("", "update carts set n = n + $1 where owner = 'O''Brien'"),
    name: "UPDATE carts",
    secrets: ["Brien", "bob"],
  },
  {
    protocol: "postgres",
    bytes: pgQuery("insert into log values (1, $$it's$$), (2, E'a\\'b')"),
    name: "INSERT log",
    secrets: ["it's", "a\\"],
  },
  {
    protocol: "mysql",
    bytes: mysqlCommand(3, 'SELECT * FROM `users` WHERE name = "bob" # why\n AND id IN (1,2,3)'),
    name: "SELECT users",
    secrets: ["bob", "why", "1,2"],
  },
  { protocol: "mysql", bytes: mysqlCommand(0x16, "DELETE FROM carts WHERE id = ?"), name: "DELETE carts" },
  { protocol: "mysql", bytes: mysqlCommand(0x0e), name: "PING" },
  { protocol: "mysql", bytes: mysqlCommand(0x17, le32(1), u8(0), le32(1)), name: "EXECUTE" },
  { protocol: "redis", bytes: resp("GET", "user:42:name"), name: "GET user:*:name", secrets: ["42"] },
  {
    protocol: "redis",
    bytes: resp("SET", "session:9f8a7b6c5d", "secret value", "EX", "60"),
    name: "SET session:*",
    secrets: ["secret value", "9f8a"],
  },
  { protocol: "redis", bytes: resp("AUTH", "hush"), name: "AUTH", secrets: ["hush"] },
  { protocol: "redis", bytes: resp("CONFIG", "GET", "maxmemory"), name: "CONFIG GET" },
  { protocol: "redis", bytes: all("PING\r\n"), name: "PING" },
  { protocol: "memcached", bytes: all("get user:42\r\n"), name: "get user:*", secrets: ["42"] },
  { protocol: "memcached", bytes: all("set cart:7 0 60 6\r\nsecret\r\n"), name: "set cart:*", secrets: ["secret"] },
  { protocol: "memcached", bytes: memcachedGet("cart:17"), name: "get cart:*", secrets: ["17"] },
  { protocol: "mongodb", bytes: mongo("find", "users"), name: "find users" },
  { protocol: "mongodb", bytes: mongo("insert", "orders"), name: "insert orders" },
  { protocol: "kafka", bytes: kafka(3, 9, u8(0, 2), compact("orders")), name: "Metadata" },
  {
    protocol: "kafka",
    bytes: kafka(0, 7, u16(0xffff), u16(1), u32(1000), u32(1), u16(6), "orders", u32(0)),
    name: "Produce orders",
  },
  {
    protocol: "kafka",
    bytes: kafka(0, 9, u8(0), u8(0), u16(1), u32(1000), u8(2), compact("orders")),
    name: "Produce orders",
  },
  {
    protocol: "cassandra",
    bytes: cql(7, "SELECT * FROM shop.users WHERE id = 42"),
    name: "SELECT shop.users",
    secrets: ["42"],
  },
  { protocol: "cassandra", bytes: cql(9, "INSERT INTO carts (id) VALUES (?)"), name: "INSERT carts" },
  {
    protocol: "nats",
    bytes: all("PUB orders.new.42 _INBOX.abc.1 5\r\nhello\r\n"),
    name: "request orders.new.*",
    secrets: ["hello", "42"],
  },
  {
    protocol: "rabbitmq",
    bytes: amqp(60, 40, u16(0), short("shop"), short("orders.42"), u8(0)),
    name: "publish shop:orders.*",
    secrets: ["42"],
  },
  { protocol: "rabbitmq", bytes: amqp(50, 10, u16(0), short("jobs"), u8(0), u32(0)), name: "queue.declare" },
  { protocol: "zookeeper", bytes: zk(4, "/brokers/ids/17"), name: "getData /brokers/ids/{id}", secrets: ["17"] },
  { protocol: "dubbo", bytes: dubbo("com.shop.OrderService", "placeOrder"), name: "com.shop.OrderService/placeOrder" },
];
