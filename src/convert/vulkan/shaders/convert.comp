// One step of a plan: fills a rectangle of the target, or draws a source into it. An invocation makes one cell of the
// target: the pixels of one chroma sample. The arithmetic is that of the CPU's converter.
#version 450
#extension GL_EXT_shader_8bit_storage : require

layout(local_size_x = 8, local_size_y = 8) in;

// Where the samples of a component are. Sample (x, y) of the upright picture is at byte `first + x * step_x + y * step_y`
// of its memory plane, so crops, reflections and rotations need no further arithmetic.
struct Component {
    // 0: the format does not have it. 1: a byte. 2 to 4: red, green and blue of a word of 5, 6 and 5 bits.
    uint kind;
    uint plane;
    int first;
    int step_x;
    int step_y;
    // The samples of a source.
    int columns;
    int rows;
    // Pixels of the place for each sample.
    int across;
    int down;
    // Samples of the source for each sample of the place.
    float scale_x;
    float scale_y;
};

struct Step {
    Component source[4];
    Component target[4];
    // Pixels of the place, and of a cell.
    int width;
    int height;
    int across;
    int down;
    // Codes of the source to codes of the target: three factors and an offset for each, with 14 fractional bits.
    ivec4 matrix[3];
    // The codes of black, from which premultiplied codes are counted. In w: which formats have alpha.
    ivec4 zero;
    // The codes of a fill.
    ivec4 color;
    // 0: fill. 1: replace. 2: straight alpha. 3: premultiplied alpha.
    int mode;
    // The layer's alpha.
    int alpha;
    int unused0;
    int unused1;
};

const int SOURCE_ALPHA = 1;
const int TARGET_ALPHA = 2;

layout(std430, set = 0, binding = 0) readonly buffer Source0 { uint8_t source0[]; };
layout(std430, set = 0, binding = 1) readonly buffer Source1 { uint8_t source1[]; };
layout(std430, set = 0, binding = 2) readonly buffer Source2 { uint8_t source2[]; };
layout(std430, set = 0, binding = 3) buffer Target0 { uint8_t target0[]; };
layout(std430, set = 0, binding = 4) buffer Target1 { uint8_t target1[]; };
layout(std430, set = 0, binding = 5) buffer Target2 { uint8_t target2[]; };
layout(std430, set = 0, binding = 6) readonly buffer Steps { Step steps[]; };

layout(push_constant) uniform Constants {
    uint step;
    uint offset0;
    uint offset1;
    uint offset2;
} constants;

int source_byte(uint plane, int at) {
    switch (plane) {
    case 0u: return int(source0[at + int(constants.offset0)]);
    case 1u: return int(source1[at + int(constants.offset1)]);
    default: return int(source2[at + int(constants.offset2)]);
    }
}

int target_byte(uint plane, int at) {
    switch (plane) {
    case 0u: return int(target0[at]);
    case 1u: return int(target1[at]);
    default: return int(target2[at]);
    }
}

void set_target_byte(uint plane, int at, int value) {
    switch (plane) {
    case 0u: target0[at] = uint8_t(value); break;
    case 1u: target1[at] = uint8_t(value); break;
    default: target2[at] = uint8_t(value); break;
    }
}

// A part of a word of 16 bits as a code of 8 bits, and back.
int part_of(uint kind, int word) {
    switch (kind) {
    case 2u: return ((word >> 11) * 255 + 15) / 31;
    case 3u: return ((word >> 5 & 63) * 255 + 31) / 63;
    default: return ((word & 31) * 255 + 15) / 31;
    }
}

int with_part(uint kind, int word, int code) {
    switch (kind) {
    case 2u: return word & 0x07ff | (code * 31 + 127) / 255 << 11;
    case 3u: return word & 0xf81f | (code * 63 + 127) / 255 << 5;
    default: return word & 0xffe0 | (code * 31 + 127) / 255;
    }
}

int sample_of(uint which, int x, int y) {
    uint kind = steps[constants.step].source[which].kind;
    uint plane = steps[constants.step].source[which].plane;
    int at = steps[constants.step].source[which].first
        + x * steps[constants.step].source[which].step_x
        + y * steps[constants.step].source[which].step_y;
    if (kind == 1u) {
        return source_byte(plane, at);
    }
    return part_of(kind, source_byte(plane, at) | source_byte(plane, at + 1) << 8);
}

// The inputs of output `i` along an axis: the first, and how many.
ivec2 span(int i, int samples, float scale) {
    if (scale == 1.0) {
        return ivec2(min(i, samples - 1), 1);
    }
    int reach = scale > 1.0 ? int(ceil(scale)) + (fract(scale) != 0.0 ? 1 : 0) : 2;
    int count = min(reach, samples);
    float begin = scale > 1.0 ? float(i) * scale : (float(i) + 0.5) * scale - 0.5;
    return ivec2(clamp(int(floor(begin)), 0, samples - count), count);
}

// The weight of an input: the part of it that the output covers, or that of bilinear interpolation.
float weight(int i, int input_sample, float scale) {
    float at = float(input_sample);
    if (scale == 1.0) {
        return 1.0;
    }
    if (scale > 1.0) {
        float begin = float(i) * scale;
        return max(0.0, min(at + 1.0, begin + scale) - max(at, begin));
    }
    return max(0.0, 1.0 - abs(at - ((float(i) + 0.5) * scale - 0.5)));
}

int scaled(uint which, int x, int y) {
    float scale_x = steps[constants.step].source[which].scale_x;
    float scale_y = steps[constants.step].source[which].scale_y;
    ivec2 columns = span(x, steps[constants.step].source[which].columns, scale_x);
    ivec2 rows = span(y, steps[constants.step].source[which].rows, scale_y);
    if (columns.y == 1 && rows.y == 1) {
        return sample_of(which, columns.x, rows.x);
    }
    float sum = 0.0;
    float weights = 0.0;
    for (int row = rows.x; row < rows.x + rows.y; row++) {
        float down = weight(y, row, scale_y);
        for (int column = columns.x; column < columns.x + columns.y; column++) {
            float both = down * weight(x, column, scale_x);
            sum += both * float(sample_of(which, column, row));
            weights += both;
        }
    }
    return clamp(int(floor(sum / weights + 0.5)), 0, 255);
}

// A component of a pixel of the place, in the source's codes.
int component(uint which, int x, int y) {
    if (steps[constants.step].source[which].kind == 0u) {
        // Gray formats have neutral chroma, and formats without alpha are opaque.
        return which == 3u ? 255 : 128;
    }
    return scaled(which, x / steps[constants.step].source[which].across, y / steps[constants.step].source[which].down);
}

int target_at(uint which, int x, int y) {
    return steps[constants.step].target[which].first
        + x * steps[constants.step].target[which].step_x
        + y * steps[constants.step].target[which].step_y;
}

int divided(int sum) {
    return clamp((sum + 127) / 255, 0, 255);
}

// Blends a code over an old one.
int blended(uint which, int code, int own, int old) {
    int mode = steps[constants.step].mode;
    int layer = steps[constants.step].alpha;
    int alphas = steps[constants.step].zero.w;
    if (which == 3u) {
        if ((alphas & TARGET_ALPHA) == 0) {
            return 255;
        }
        if (mode == 1) {
            return divided(own * layer + old * (255 - layer));
        }
        int alpha = divided(own * layer);
        return divided(alpha * 255 + old * (255 - alpha));
    }
    if (mode == 1 || (alphas & SOURCE_ALPHA) == 0) {
        return layer == 255 ? code : divided(code * layer + old * (255 - layer));
    }
    int alpha = divided(own * layer);
    if (mode == 2) {
        return divided(code * alpha + old * (255 - alpha));
    }
    int zero = steps[constants.step].zero[which];
    int sum = (code - zero) * layer + (old - zero) * (255 - alpha);
    return clamp((sum + (sum < 0 ? -127 : 127)) / 255 + zero, 0, 255);
}

bool needs_old() {
    return steps[constants.step].mode > 1 || steps[constants.step].alpha < 255;
}

// Writes one component of a sample of the target.
void store(uint which, int x, int y, int code, int own) {
    uint kind = steps[constants.step].target[which].kind;
    uint plane = steps[constants.step].target[which].plane;
    int at = target_at(which, x, y);
    if (kind == 1u) {
        int old = needs_old() ? target_byte(plane, at) : 0;
        set_target_byte(plane, at, blended(which, code, own, old));
        return;
    }
    int word = target_byte(plane, at) | target_byte(plane, at + 1) << 8;
    word = with_part(kind, word, blended(which, code, own, part_of(kind, word)));
    set_target_byte(plane, at, word & 255);
    set_target_byte(plane, at + 1, word >> 8);
}

// The codes of a pixel of the place in the target's colors, and its alpha.
ivec4 pixel(int x, int y) {
    if (steps[constants.step].mode == 0) {
        return steps[constants.step].color;
    }
    ivec3 from = ivec3(component(0u, x, y), component(1u, x, y), component(2u, x, y));
    ivec3 to;
    for (int i = 0; i < 3; i++) {
        ivec4 row = steps[constants.step].matrix[i];
        to[i] = clamp((row.x * from.x + row.y * from.y + row.z * from.z + row.w) >> 14, 0, 255);
    }
    bool has_alpha = (steps[constants.step].zero.w & SOURCE_ALPHA) != 0;
    return ivec4(to, has_alpha ? component(3u, x, y) : 255);
}

// Writes the codes of a sample that has `pixels` pixels, of which `codes` is the sum.
void store_all(bool is_cell, int x, int y, ivec4 codes) {
    for (uint which = 0u; which < 4u; which++) {
        bool subsampled = steps[constants.step].target[which].across * steps[constants.step].target[which].down > 1;
        if (steps[constants.step].target[which].kind == 0u || subsampled != is_cell) {
            continue;
        }
        if (steps[constants.step].mode == 0) {
            uint kind = steps[constants.step].target[which].kind;
            uint plane = steps[constants.step].target[which].plane;
            int at = target_at(which, x, y);
            if (kind == 1u) {
                set_target_byte(plane, at, codes[which]);
                continue;
            }
            int word = with_part(kind, target_byte(plane, at) | target_byte(plane, at + 1) << 8, codes[which]);
            set_target_byte(plane, at, word & 255);
            set_target_byte(plane, at + 1, word >> 8);
            continue;
        }
        store(which, x, y, codes[which], codes.w);
    }
}

void main() {
    ivec2 cell = ivec2(gl_GlobalInvocationID.xy);
    ivec2 size = ivec2(steps[constants.step].width, steps[constants.step].height);
    ivec2 unit = ivec2(steps[constants.step].across, steps[constants.step].down);
    ivec2 first = cell * unit;
    if (first.x >= size.x || first.y >= size.y) {
        return;
    }
    ivec2 end = min(first + unit, size);
    ivec4 sum = ivec4(0);
    for (int y = first.y; y < end.y; y++) {
        for (int x = first.x; x < end.x; x++) {
            ivec4 codes = pixel(x, y);
            store_all(false, x, y, codes);
            sum += codes;
        }
    }
    if (unit.x * unit.y > 1) {
        int count = (end.x - first.x) * (end.y - first.y);
        store_all(true, cell.x, cell.y, (sum + count / 2) / count);
    }
}
