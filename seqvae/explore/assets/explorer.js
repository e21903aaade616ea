// What happens in the visitor's browser alone: clicks become places, the map is put together, the address holds the state.
(function () {
  const none = () => window.dash_clientside.no_update;
  // What an address holds, in the order in which callbacks.py hands it over.
  const KEPT = ["place", "pair", "sums", "asked", "tab", "colour", "layers", "kind", "steps", "own", "sum-a", "sum-b", "sum-c",
    "path-a", "path-b", "steer-text", "attribute", "strength", "chart", "label"];
  const known = {mode: "look", pair: null, base: null, cursor: null}; // what the keys need
  let written = null; // the part of the address that this page wrote last

  function readAddress(hash) {
    try { return JSON.parse(decodeURIComponent((hash || "").slice(1))) || {}; } catch (error) { return {}; }
  }

  function ground(base, x, y) { // a place of the map without a point; other maps than PCA have no way back but their points
    if (base.chart === "pca") return {xy: [x, y]};
    const found = base.data.x.map((px, i) => [(px - x) ** 2 + (base.data.y[i] - y) ** 2, i]).sort((a, b) => a[0] - b[0]);
    const mean = {};
    found.slice(0, 5).forEach(([d, i]) => { mean[i] = Number((found[0][0] / Math.max(d, 1e-12)).toFixed(4)) || 0.0001; });
    return {mean};
  }

  function position(base, point) { // of a point on the map that is shown
    if (base.chart === "pca" || !point.near) return point.xy;
    if (point.sample != null && base.prior.x.length) return [base.prior.x[point.sample], base.prior.y[point.sample]];
    return ["x", "y"].map((axis) => point.near.reduce((sum, [i, w]) => sum + w * base.data[axis][i], 0));
  }

  function choose(place, mode, pair) { // what a chosen place means: place, pair, tab
    if (mode !== "draw") return [place, none(), "place"];
    return [none(), pair && pair.a && !pair.b ? {a: pair.a, b: place} : {a: place}, "path"];
  }

  // The keys of the map: arrows go to the next point in their direction, Enter chooses it, Escape lets go.
  const ARROWS = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  function step(from, [dx, dy]) {
    const {x, y} = known.base.data;
    let best = from, least = Infinity;
    for (let i = 0; i < x.length; i++) {
      const along = (x[i] - x[from]) * dx + (y[i] - y[from]) * dy, aside = Math.abs((x[i] - x[from]) * dy - (y[i] - y[from]) * dx);
      const cost = along + 3 * aside;
      if (along > 1e-9 && aside <= 2 * along && cost < least) { least = cost; best = i; }
    }
    return best;
  }
  document.addEventListener("keydown", (event) => {
    if (!event.target || event.target.id !== "keys" || !known.base || event.ctrlKey || event.altKey || event.metaKey) return;
    const set = window.dash_clientside.set_props, at = known.cursor == null ? known.start || 0 : known.cursor;
    if (event.key in ARROWS) set("cursor", {data: known.cursor = known.cursor == null ? at : step(at, ARROWS[event.key])});
    else if (event.key === "Escape") set("cursor", {data: known.cursor = null});
    else if (event.key === "Enter" || event.key === " ") {
      const [place, pair, tab] = choose({index: at}, known.mode, known.pair);
      if (place !== none()) set("place", {data: place});
      if (pair !== none()) set("pair", {data: pair});
      set("tab", {value: tab});
    } else return;
    event.preventDefault();
  });

  // While paths are drawn, the figure tells of lines but not of clicks.
  let pressed = null;
  document.addEventListener("pointerdown", (event) => {
    pressed = known.mode === "draw" && event.target.closest("#map .nsewdrag") ? event : null;
  }, true);
  document.addEventListener("pointerup", (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 4) return;
    const figure = document.querySelector("#map .js-plotly-plot"), box = figure.getBoundingClientRect();
    const {xaxis, yaxis} = figure._fullLayout;
    const place = nearest(known.base, xaxis.p2d(event.clientX - box.left - xaxis._offset), yaxis.p2d(event.clientY - box.top - yaxis._offset));
    window.dash_clientside.set_props("pair", {data: choose(place, "draw", known.pair)[1]});
    window.dash_clientside.set_props("tab", {value: "path"});
  }, true);

  function nearest(base, x, y) { // the sentence under a point that was drawn, or the point itself
    let best = null, least = Infinity;
    const span = base.span, data = base.data;
    for (let i = 0; i < data.x.length; i++) {
      const d = Math.hypot((data.x[i] - x) / span[0], (data.y[i] - y) / span[1]);
      if (d < least) { least = d; best = i; }
    }
    return least < 0.012 ? {index: best} : ground(base, x, y);
  }

  function clicked(data, base) {
    const point = (data.points || [])[0];
    if (point && point.customdata != null) {
      const [kind, number] = String(point.customdata).split(":");
      return {[kind]: Number(number)};
    }
    if (data.xvals) return ground(base, data.xvals[0], data.yvals[0]);
    return point ? ground(base, point.x, point.y) : null;
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.explorer = {
    // The state that the address holds, when the page opens or a link is pasted.
    restore: function (hash) {
      if (written !== null && hash === written) return KEPT.map(() => none());
      const state = Object.assign({place: {index: 0}}, readAddress(hash));
      if (state.sums) state.sums = {texts: state.sums};
      if (state.asked) state.asked = {text: state.asked};
      return KEPT.map((name) => (name in state ? state[name] : none()));
    },

    // The address of what is shown; it is replaced, so that the button Back leaves the page.
    save: function (...values) {
      const turned = values[KEPT.length], state = {};
      KEPT.forEach((name, i) => { if (values[i] != null && values[i] !== "") state[name] = values[i]; });
      if (state.sums) state.sums = state.sums.texts;
      if (state.asked) state.asked = state.asked.text;
      if (state.place && turned && turned.turns) {
        state.place = Object.assign({}, state.place);
        delete state.place.turns;
        if (Object.keys(turned.turns).length) state.place.turns = turned.turns;
      }
      written = "#" + encodeURIComponent(JSON.stringify(state));
      window.history.replaceState(null, "", window.location.pathname + written);
      return none();
    },

    ask: (clicks, enter, text) => (clicks || enter ? {text: text || "", new: true} : none()),
    askPair: (clicks, enterA, enterB, a, b) => (clicks || enterA || enterB ? {a: {text: a || ""}, b: {text: b || ""}} : none()),
    askSum: (clicks, enterA, enterB, enterC, ...texts) =>
      (clicks || enterA || enterB || enterC ? {texts: texts.map((text) => text || ""), new: true} : none()),

    share: function (clicks) {
      if (!clicks) return none();
      if (navigator.clipboard) navigator.clipboard.writeText(window.location.href);
      setTimeout(() => { const b = document.getElementById("share"); if (b) b.textContent = "Copy link"; }, 1500);
      return navigator.clipboard ? "Copied" : "The address is the link";
    },

    // A click on the map: a place to look at, or an end of a path; or a line that was drawn.
    click: function (data, moved, mode, base, pair, draft) {
      const by = (window.dash_clientside.callback_context.triggered[0] || {}).prop_id || "";
      const keep = [none(), none(), none()];
      if (by.startsWith("map.relayoutData")) {
        const lines = moved && moved.shapes;
        if (!lines || !lines.length) return keep;
        const l = lines[lines.length - 1];
        if (l.x0 === l.x1 && l.y0 === l.y1) return keep;
        return [none(), {a: nearest(base, l.x0, l.y0), b: nearest(base, l.x1, l.y1)}, "path"];
      }
      if (mode === "draw") return keep;
      const place = data && base && clicked(data, base);
      if (!place) return keep;
      if ("step" in place) return keep;
      if (known.cursor != null) window.dash_clientside.set_props("cursor", {data: known.cursor = null});
      return choose(place, mode, pair);
    },

    tabs: function (tab) {
      return ["place", "path", "add", "read", "health"].map((name) => (name === tab ? "" : "hidden"));
    },

    hint: function (mode, found, query, pair, cursor, base) {
      if (cursor != null && base) return "“" + base.texts[cursor] + "”: Enter " + (mode === "draw" ? "makes it an end of the path." : "looks at it.");
      if (query) return (found || []).length + " found for “" + query + "”, ringed on the map.";
      if (mode === "draw") {
        return pair && pair.a && !pair.b ? "Now click where the path shall end." : "Drag from one point to another, or click two.";
      }
      return "Click a point, or empty ground, to see what decodes there. Scroll to zoom, drag to move; or use the arrow keys.";
    },

    search: function (query, base) {
      const words = (query || "").toLowerCase().trim();
      if (!words || !base) return [];
      const found = [];
      base.texts.forEach((text, i) => { if (text.toLowerCase().includes(words)) found.push(i); });
      return found;
    },

    // The step of a path that the slider shows, and the button that moves it.
    step: function (number, walked) {
      if (!walked || !walked.steps.length) return ["", "hidden"];
      const s = walked.steps[Math.min(number, walked.steps.length - 1)];
      document.querySelectorAll("#steps-list li").forEach((li, i) => li.classList.toggle("now", i === number));
      return [s.text || "(empty)", ""];
    },
    length: (walked) => (walked && walked.steps.length ? [walked.steps.length - 1, 0] : [none(), none()]),
    play: (clicks, off) => (clicks ? [!off, off ? "Pause" : "Play"] : [none(), none()]),
    advance: (ticks, number, last) => (number >= last ? 0 : number + 1),

    // The map: the layers from the server, and over them what this visitor has chosen.
    draw: function (base, here, turned, walked, cursor, number, found, mode, tab, pair) {
      if (!base) return none();
      Object.assign(known, {base, mode, pair, cursor});
      if (here && here.near) known.start = here.near[0][0];
      const small = window.innerWidth < 700; // smaller points on a small map
      const data = base.traces.map((t) => small ? Object.assign({}, t, {marker: Object.assign({}, t.marker, {size: 4})}) : t), layout = Object.assign({}, base.layout);
      const dark = window.matchMedia("(prefers-color-scheme: dark)").matches, ink = dark ? "#ffffff" : "#101418";
      const ring = (xy, size, symbol, width) => ({type: "scatter", mode: "markers", x: [xy[0]], y: [xy[1]], hoverinfo: "skip",
        showlegend: false, marker: {size, symbol, color: dark ? "#1d2126" : "#ffffff", line: {width, color: ink}}});
      if (found && found.length) {
        data.push({type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, x: found.map((i) => base.data.x[i]),
          y: found.map((i) => base.data.y[i]), marker: {size: 13, symbol: "circle-open", color: ink, line: {width: 2}}});
      }
      if (walked && walked.steps.length) {
        const s = walked.steps;
        data.push({type: "scatter", mode: "lines+markers", x: s.map((p) => position(base, p)[0]), y: s.map((p) => position(base, p)[1]), showlegend: false,
          hovertext: s.map((p) => p.hover), hovertemplate: "%{hovertext}<extra></extra>", customdata: s.map((_, i) => "step:" + i),
          line: {width: 3, color: "#D55E00"}, marker: {size: 9, color: "#D55E00", line: {width: 1, color: "#ffffff"}}});
        if (tab === "path") data.push(ring(position(base, s[Math.min(number || 0, s.length - 1)]), 15, "circle", 3));
      }
      if (pair && pair.a && !pair.b && pair.a.xy && base.chart === "pca") data.push(ring(pair.a.xy, 12, "x", 1));
      if (pair && pair.a && !pair.b && pair.a.index != null) {
        data.push(ring([base.data.x[pair.a.index], base.data.y[pair.a.index]], 12, "x", 1));
      }
      if (here && here.xy) data.push(ring(position(base, here), 14, "circle-cross", 2));
      if (turned && turned.turns && Object.keys(turned.turns).length) data.push(ring(position(base, turned), 12, "diamond", 2));
      if (cursor != null) {
        data.push({type: "scatter", mode: "markers", x: [base.data.x[cursor]], y: [base.data.y[cursor]], hoverinfo: "skip", showlegend: false,
          marker: {size: 24, symbol: "circle", color: "rgba(0,0,0,0)", line: {width: 3, color: "#D55E00"}}});
      }
      layout.dragmode = mode === "draw" ? "drawline" : "pan";
      layout.newshape = {line: {color: "#D55E00", width: 3}};
      layout.shapes = [];
      layout.datarevision = Math.random();
      return {data, layout};
    },
  };
})();
