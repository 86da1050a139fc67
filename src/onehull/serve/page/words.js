// Numbers and names as people read them.

export function percent(value) {
  const hundred = value * 100;
  if (hundred >= 99.95 || hundred === 0) return `${hundred.toFixed(0)} %`;
  return `${hundred.toFixed(hundred < 0.95 ? 2 : hundred < 9.95 ? 1 : 0)} %`;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 100 ? digits + 1 : digits)));
}

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds <= 0) return null;
  const whole = Math.round(seconds);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  const clock = `${minutes % 60}:${String(rest).padStart(2, "0")}`;
  return minutes < 60 ? clock : `${Math.floor(minutes / 60)}:${clock.padStart(5, "0")}`;
}

export const title = (item) => String(item.show.title ?? item.id);

export const words = (name) => name.replaceAll("_", " ");

// Attributes worth a line; the id itself, when it is a feature as well, is not one.
export function attributes(entity, most) {
  return Object.entries(entity.attributes ?? {})
    .filter(([, value]) => value !== null && value !== entity.id && !(Array.isArray(value) && !value.length))
    .slice(0, most)
    .map(([name, value]) => {
      const text = Array.isArray(value) ? value.join(", ") : typeof value === "number" ? number(value) : String(value);
      return { name: words(name), text: text.length > 32 ? `${text.slice(0, 31)}…` : text };
    });
}

export function weightLabel(name) {
  const [tasks, role] = name.split(".");
  const again = role.match(/_\d+$/)?.[0].replace("_", " #") ?? "";
  return { tasks: tasks.split("_"), text: words(tasks), sign: role.startsWith("power") ? "exponent" : "factor", again };
}
