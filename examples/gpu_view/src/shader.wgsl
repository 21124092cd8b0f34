// Draws a picture from its planes, and a label with a number.

struct Facts {
    // From samples to red, green and blue. The fourth number is added.
    red: vec4<f32>,
    green: vec4<f32>,
    blue: vec4<f32>,
    // 0: RGB. 1: luma alone. 2: luma, and a plane of both chroma samples. 3: three planes.
    kind: u32,
    // 1: Cr comes before Cb.
    swapped: u32,
    number: u32,
    digits: u32,
}

@group(0) @binding(0) var<uniform> facts: Facts;
@group(0) @binding(1) var linear: sampler;
@group(0) @binding(2) var first: texture_2d<f32>;
@group(0) @binding(3) var second: texture_2d<f32>;
@group(0) @binding(4) var third: texture_2d<f32>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) at: vec2<f32>,
}

// A triangle that covers the viewport, whose corners are (0, 0) and (1, 1).
@vertex
fn corner(@builtin(vertex_index) n: u32) -> Corner {
    let at = vec2<f32>(f32(n << 1u & 2u), f32(n & 2u));
    return Corner(vec4<f32>(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0), at);
}

// A sample of chroma lies in the middle of its pixels.
@fragment
fn picture(in: Corner) -> @location(0) vec4<f32> {
    let a = textureSample(first, linear, in.at);
    let b = textureSample(second, linear, in.at);
    let c = textureSample(third, linear, in.at);
    var samples = vec4<f32>(a.rgb, 1.0);
    if facts.kind == 1u {
        samples = vec4<f32>(a.r, 128.0 / 255.0, 128.0 / 255.0, 1.0);
    } else if facts.kind == 2u {
        samples = vec4<f32>(a.r, b.rg, 1.0);
    } else if facts.kind == 3u {
        samples = vec4<f32>(a.r, b.r, c.r, 1.0);
    }
    if facts.swapped == 1u {
        samples = samples.xzyw;
    }
    return vec4<f32>(dot(facts.red, samples), dot(facts.green, samples), dot(facts.blue, samples), 1.0);
}

// Digits of 3 by 5 cells. Bit 0 is the left upper one.
const FONT = array<u32, 10>(0x7b6fu, 0x7493u, 0x73e7u, 0x79e7u, 0x49edu, 0x79cfu, 0x7bcfu, 0x4927u, 0x7befu, 0x79efu);

// White digits on a box through which the picture shows: 4 cells for each digit, and a rim of one cell.
@fragment
fn label(in: Corner) -> @location(0) vec4<f32> {
    let cell = vec2<u32>(in.at * vec2<f32>(f32(facts.digits * 4u + 1u), 7.0));
    let ground = vec4<f32>(0.0, 0.0, 0.0, 0.5);
    if cell.x == 0u || cell.y == 0u || cell.y > 5u {
        return ground;
    }
    let column = (cell.x - 1u) % 4u;
    var number = facts.number;
    for (var after = facts.digits - 1u - (cell.x - 1u) / 4u; after > 0u; after -= 1u) {
        number /= 10u;
    }
    var font = FONT;
    let is_ink = column < 3u && (font[number % 10u] >> ((cell.y - 1u) * 3u + column) & 1u) == 1u;
    return select(ground, vec4<f32>(1.0), is_ink);
}
