// Shows pictures that examples/explorer_pictures.py made beforehand: a row of a sheet for each position of the slider.
(() => {
  const root = document.getElementById("explorer-panel")
  if (!root || !window.explorerPictures) return
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties)
    element.append(...children)
    return element
  }
  const names = { photos: "photographs", digits: "digits of 8 x 8 pixels" }

  const layer = make("select")
  window.explorerPictures.forEach((one, i) => layer.append(make("option", { value: i }, `${one.layer}: ${one.argument}`)))
  const data = make("select")
  const slider = make("input", { type: "range", min: 0, step: 1 })
  const value = make("output")
  const code = make("code")
  const about = make("p")
  const tiles = make("div", { className: "explorer-tiles" })

  const current = () => window.explorerPictures[layer.value]
  const sheet = () => current().data[data.value]

  function chooseLayer() {
    const before = data.value
    data.replaceChildren(...Object.keys(current().data).map((kind) => make("option", { value: kind }, names[kind])))
    data.value = before in current().data ? before : "photos"
    about.textContent = current().about
    chooseData()
  }

  function chooseData() {
    const { file, values, labels } = sheet()
    slider.max = values.length - 1
    slider.value = Math.floor(values.length / 2)
    tiles.className = `explorer-tiles ${data.value}`
    tiles.replaceChildren(
      ...labels[0].map((_, column) => {
        const image = make("div", { className: "explorer-image", role: "img" })
        image.style.backgroundImage = `url("${root.dataset.pictures}${file}")`
        image.style.backgroundSize = `${100 * labels[0].length}% ${100 * values.length}%`
        image.dataset.column = (100 * column) / (labels[0].length - 1)
        return make("figure", {}, image, make("figcaption"))
      }),
    )
    move()
  }

  function move() {
    const { values, codes, labels } = sheet()
    const row = Number(slider.value)
    value.textContent = values[row]
    slider.setAttribute("aria-valuetext", values[row])
    code.textContent = `keras_reg.layers.${codes[row]}`
    ;[...tiles.children].forEach((tile, i) => {
      const [image, caption] = tile.children
      image.setAttribute("aria-label", labels[row][i].map(([name, percent]) => `${name} ${percent} %`).join(", "))
      image.style.backgroundPosition = `${image.dataset.column}% ${(100 * row) / (values.length - 1)}%`
      caption.replaceChildren(
        ...labels[row][i].map(([name, percent], rank) => {
          const bar = make("i", { className: rank ? "other" : "" })
          bar.style.width = `${percent}%`
          return make("span", {}, bar, make("b", {}, `${name} ${percent} %`))
        }),
      )
    })
  }

  layer.addEventListener("change", chooseLayer)
  data.addEventListener("change", chooseData)
  slider.addEventListener("input", move)
  const field = (name, ...parts) => make("label", {}, make("span", {}, name), ...parts)
  root.replaceChildren(
    make("div", { className: "explorer-controls" }, field("layer", layer), field("images", data), field("value", slider, value)),
    make("pre", {}, code),
    about,
    tiles,
  )
  // A link such as explorer.html#CutMix begins with that layer.
  function chooseLinked() {
    const linked = window.explorerPictures.findIndex((one) => `#${one.layer}` === location.hash)
    if (linked >= 0) layer.value = linked
    chooseLayer()
  }
  window.addEventListener("hashchange", chooseLinked)
  chooseLinked()
})()
