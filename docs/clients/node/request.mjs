/** Requests are checked before they leave: the libraries below drop or bend what they do not like. */

const LEAST = -(2n ** 63n);
const MOST = 2n ** 63n - 1n;

/**
 * A copy of `message` that is encoded as it stands.
 *
 * protobufjs drops fields that it does not know, a `paymentRequestId` among them, and makes 0 of
 * "x", 42 of 42.5, and something else of what 64 bits do not hold. Money is not guessed.
 *
 * @param {import("protobufjs").Type} type of the message, resolved
 * @throws {TypeError} for a field that does not exist, and for an int64 that is no whole number
 */
export function checked(type, message, path = "") {
  const copy = {};
  for (const [name, value] of Object.entries(message)) {
    const field = type.fields[name];
    const at = path ? `${path}.${name}` : name;
    if (!field) throw new TypeError(`${at}: ${type.name} has no such field`);
    if (value === undefined || value === null) continue;
    copy[name] = field.map
      ? { ...value }
      : field.repeated
        ? Array.from(value, (one, index) => scalar(field, one, `${at}[${index}]`))
        : scalar(field, value, at);
  }
  return copy;
}

function scalar(field, value, path) {
  if (field.type === "int64") return int64(value, path);
  const inner = field.resolvedType;
  if (inner?.fields) return checked(inner, value, path);
  if (inner?.values && !(value in inner.values) && !Object.values(inner.values).includes(value)) {
    throw new TypeError(`${path}: ${inner.name} has no value ${value}`);
  }
  return value;
}

/** As text, which every version of the libraries takes whole. */
function int64(value, path) {
  const whole =
    typeof value === "bigint" ||
    Number.isSafeInteger(value) ||
    (typeof value === "string" && /^-?\d+$/.test(value));
  if (!whole || BigInt(value) < LEAST || BigInt(value) > MOST) {
    throw new TypeError(`${path}: ${value} is no 64-bit integer; use text or a BigInt`);
  }
  return String(value);
}
