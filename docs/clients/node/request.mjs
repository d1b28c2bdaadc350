/** Requests are checked before they leave: the libraries below drop or bend what they do not like. */

const TIMESTAMP = ".google.protobuf.Timestamp";

/**
 * A copy of `message` that is encoded as it stands.
 *
 * protobufjs drops fields that it does not know, a `paymentRequestId` among them, makes 0 of "x",
 * 42 of 42.5, true of "false", 1970 of a Date, and something else of what the bits do not hold.
 * Money is not guessed.
 *
 * @param {import("protobufjs").Type} type of the message, resolved
 * @throws {TypeError} for a field that does not exist, a value that is not of its field's type, and
 *   more than one field of a oneof. A Date is a value of a Timestamp.
 */
export function checked(type, message, path = "") {
  if (!isPlain(message)) throw new TypeError(`${path || type.name}: ${message} is no plain object`);
  const copy = {};
  for (const [name, value] of Object.entries(message)) {
    const at = path ? `${path}.${name}` : name;
    if (!Object.hasOwn(type.fields, name)) {
      throw new TypeError(`${at}: ${type.name} has no such field`);
    }
    if (value !== undefined && value !== null) copy[name] = several(type.fields[name], value, at);
  }
  for (const { name, oneof } of type.oneofsArray) {
    const given = oneof.filter((member) => member in copy);
    if (given.length > 1) {
      const both = given.join(" and ");
      throw new TypeError(`${path || type.name}: ${both}: only one ${name} is taken`);
    }
  }
  return copy;
}

function several(field, value, path) {
  if (field.map) {
    if (!isPlain(value)) throw new TypeError(`${path}: ${value} is no plain object`);
    const entries = Object.entries(value);
    return Object.fromEntries(
      entries.map(([key, one]) => [key, scalar(field, one, `${path}.${key}`)]),
    );
  }
  if (!field.repeated) return scalar(field, value, path);
  if (!Array.isArray(value)) throw new TypeError(`${path}: ${value} is no array`);
  return value.map((one, index) => scalar(field, one, `${path}[${index}]`));
}

function scalar(field, value, path) {
  const inner = field.resolvedType;
  if (inner?.fields) return checked(inner, ofDate(inner, value), path);
  if (inner?.values) return enumerated(inner, value, path);
  switch (field.type) {
    case "int64":
      // As text, which every version of the libraries takes whole.
      return String(integer(64, value, path));
    case "int32":
    case "sint32":
      return Number(integer(32, value, path));
    case "bool":
      return ofKind("boolean", value, path);
    case "string":
      return ofKind("string", value, path);
    default:
      throw new TypeError(`${path}: nothing is known of ${field.type} here`);
  }
}

function isPlain(value) {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** A Date has no fields of its own: taken for a message it would be empty. */
function ofDate(type, value) {
  if (type.fullName !== TIMESTAMP || !(value instanceof Date)) return value;
  const seconds = Math.floor(value.getTime() / 1000);
  return { seconds, nanos: (value.getTime() - seconds * 1000) * 1e6 };
}

function enumerated(type, value, path) {
  const known =
    typeof value === "number"
      ? Object.values(type.values).includes(value)
      : Object.hasOwn(type.values, value);
  if (!known) throw new TypeError(`${path}: ${type.name} has no value ${value}`);
  return value;
}

function integer(bits, value, path) {
  const whole =
    typeof value === "bigint" ||
    Number.isSafeInteger(value) ||
    (typeof value === "string" && /^-?\d+$/.test(value));
  if (!whole || BigInt.asIntN(bits, BigInt(value)) !== BigInt(value)) {
    throw new TypeError(`${path}: ${value} is no ${bits}-bit integer; use text or a BigInt`);
  }
  return BigInt(value);
}

function ofKind(kind, value, path) {
  if (typeof value !== kind) throw new TypeError(`${path}: ${value} is no ${kind}`);
  return value;
}
