"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const by = (id) => document.getElementById(id);
  let model = null;
  const make = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const headers = () => {
    const key = by("key") ? by("key").value.trim() : "";
    return key ? {"Authorization": `Bearer ${key}`} : {};
  };
  const get = async (path, options) => {
    const reply = await fetch(path, {...options, headers: {...headers(), ...((options || {}).headers || {})}});
    const value = await reply.json();
    if (!reply.ok) throw value;
    return value;
  };
  const types = (field) => [].concat(field.schema.type);
  const isFile = (field) => ["image", "audio", "volume"].includes(field.kind);
  const input = (field, id) => {
    const kinds = types(field), example = field.example === null || field.example === undefined ? "" : String(field.example);
    if (isFile(field)) return make("input", {id, type: "file", accept: field.kind === "volume" ? ".nii,.gz" : `${field.kind}/*`});
    if (kinds.includes("boolean")) {
      const select = make("select", {id}, make("option", {value: ""}, "(no value)"), make("option", {}, "true"), make("option", {}, "false"));
      select.value = example;
      return select;
    }
    if (field.kind === "text") {
      const area = make("textarea", {id});
      area.value = example;
      return area;
    }
    if (kinds.includes("number") || kinds.includes("integer"))
      return make("input", {id, type: "number", step: kinds.includes("integer") ? "1" : "any", value: example});
    return make("input", {id, type: "text", value: example, list: field.schema.examples ? `${id}-known` : null});
  };
  const place = (field, index) => {
    const id = `field-${index}`;
    const node = make("div", {class: "field"}, make("label", {for: id}, field.name), input(field, id));
    if (field.schema.examples && !isFile(field))
      node.append(make("datalist", {id: `${id}-known`}, ...field.schema.examples.map((value) => make("option", {value: String(value)}))));
    node.append(make("span", {class: "wrong", id: `${id}-wrong`}));
    node.lastChild.hidden = true;
    return node;
  };
  const base64 = (file) => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
  const value = async (field, node) => {
    if (isFile(field)) return node.files.length ? base64(node.files[0]) : null;
    if (node.value === "") return null;
    if (types(field).includes("boolean")) return node.value === "true";
    if (types(field).includes("number") || types(field).includes("integer")) return Number(node.value);
    return node.value;
  };
  const row = async () => {
    const found = {};
    for (const [index, field] of model.fields.entries()) found[field.name] = await value(field, by(`field-${index}`));
    return found;
  };
  const show = (...nodes) => { by("answer").replaceChildren(...nodes); by("result").hidden = false; };
  const written = (prediction) => Array.isArray(prediction) ? prediction.join(", ") || "none" :
    typeof prediction === "object" && prediction ? Object.entries(prediction).map(([name, part]) => `${name}: ${part}`).join(", ") :
    typeof prediction === "number" && !Number.isInteger(prediction) ? prediction.toPrecision(6) : String(prediction);
  const bars = (probabilities) => {
    const node = make("div", {class: "bars", role: "table", "aria-label": "Probabilities"});
    for (const [name, share] of Object.entries(probabilities).sort((one, other) => other[1] - one[1]).slice(0, 20)) {
      const bar = make("div", {class: "bar"}), percent = `${(100 * share).toFixed(1)} %`;
      bar.style.width = `${100 * share}%`;
      node.append(make("div", {role: "cell"}, name), make("div", {class: "track", "aria-hidden": "true"}, bar), make("div", {class: "share", role: "cell"}, percent));
    }
    return node;
  };
  const mark = (errors) => {
    for (const [index, field] of model.fields.entries()) {
      const error = errors.find((one) => one.field === field.name), note = by(`field-${index}-wrong`);
      by(`field-${index}`).setAttribute("aria-invalid", String(Boolean(error)));
      note.textContent = error ? `allowed: ${error.allowed}` : "";
      note.hidden = !error;
    }
  };
  const failed = (problem) => {
    mark(problem.errors || []);
    const text = problem.detail || "the server did not answer";
    show(make("div", {class: "callout error", role: "alert"}, make("b", {}, problem.title || "No answer"), problem.hint ? `${text} (${problem.hint})` : text));
  };
  const command = (found) => {
    const shown = Object.fromEntries(Object.entries(found).map(([name, part]) => [name, typeof part === "string" && part.length > 200 ? "…" : part]));
    const quoted = JSON.stringify(shown).replaceAll("'", "'\\''");
    const key = by("key") ? " \\\n  -H 'Authorization: Bearer KEY'" : "";
    by("command").textContent = `curl ${new URL(address(), location.href)}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  };
  const address = () => `v1/models/${encodeURIComponent(model.name)}/predict`;
  const open = async (name) => {
    model = await get(`v1/models/${encodeURIComponent(name)}`);
    by("about").textContent = `${model.name} ${model.version} · predicts ${model.target.join(", ")}`;
    by("fields").replaceChildren(...model.fields.map(place));
    by("result").hidden = true;
    command(await row());
  };
  const start = async () => {
    try {
      const {models} = await get("v1/models");
      by("model").replaceChildren(...models.map((one) => make("option", {value: one.name}, one.name)));
      by("choice").hidden = models.length < 2;
      await open(models[0].name);
    } catch (problem) {
      if (problem.status === 401) by("about").textContent = "Give the key to see the model.";
      else { model = model || {fields: []}; failed(problem); }
    }
  };
  by("model").addEventListener("change", () => open(by("model").value).catch(failed));
  if (by("key")) by("key").addEventListener("change", start);
  by("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!model) return;
    by("ask").disabled = true;
    try {
      const found = await row();
      command(found);
      const answer = await get(address(), {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(found)});
      mark([]);
      const parts = [make("p", {class: "prediction"}, written(answer.prediction))];
      if (answer.probabilities) parts.push(bars(answer.probabilities));
      for (const warning of answer.warnings || []) parts.push(make("p", {class: "quiet"}, warning));
      show(...parts, make("p", {class: "quiet"}, `request ${answer.id}${answer.arm ? ` · answered by ${answer.arm} ${answer.version}` : ""}`));
    } catch (problem) { failed(problem); }
    by("ask").disabled = false;
  });
  start();
});
