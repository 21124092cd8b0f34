/* Lists the V4L2 devices, and what one of them offers.
 *
 *     devices            all devices, a line for each
 *     devices PATH       formats, sizes and controls of a device
 *     devices PATH CONTROL VALUE      sets a control, by its number
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <framelease.h>

static int fail(void) {
    fprintf(stderr, "devices: %s\n", fl_message(NULL));
    return 1;
}

static int list(void) {
    fl_device_list *devices = NULL;
    if (fl_device_list_create(&devices) < 0) {
        return fail();
    }
    fl_device_info info = FL_INIT(fl_device_info);
    for (size_t i = 0; fl_device_list_get(devices, i, &info) == FL_OK; i++) {
        printf("%s %s \"%s\"%s%s%s\n", info.path, info.driver, info.card,
               info.flags & FL_DEVICE_CAPTURE ? " capture" : "", info.flags & FL_DEVICE_OUTPUT ? " output" : "", info.flags & FL_DEVICE_M2M ? " m2m" : "");
    }
    fl_device_list_close(&devices);
    return 0;
}

static void print_sizes(fl_device *device, uint32_t fourcc) {
    fl_size_range range = FL_INIT(fl_size_range);
    for (size_t i = 0; fl_device_get_size(device, fourcc, i, &range) == FL_OK; i++) {
        printf("    %" PRIu32 "x%" PRIu32, range.min_width, range.min_height);
        if (range.step_width > 0) {
            printf(" to %" PRIu32 "x%" PRIu32, range.max_width, range.max_height);
        }
        fl_interval min, max;
        size_t n = 0;
        while (fl_device_get_interval(device, fourcc, range.min_width, range.min_height, n++, &min, &max) == FL_OK) {
            printf(" %" PRIu32 "/%" PRIu32 " s", min.numerator, min.denominator);
        }
        putchar('\n');
    }
}

static void print_control(fl_device *device, const fl_control *control) {
    int64_t value = 0;
    printf("  0x%08" PRIx32 " %s (%s)", control->id, control->name, fl_control_kind_name(control->kind));
    if (control->kind != FL_CONTROL_OTHER && control->kind != FL_CONTROL_BUTTON) {
        printf(": %" PRId64 " to %" PRId64, control->minimum, control->maximum);
        if (fl_device_get_control(device, control->id, &value) == FL_OK) {
            printf(", now %" PRId64, value);
        }
    }
    putchar('\n');
    fl_menu_item item = FL_INIT(fl_menu_item);
    for (size_t i = 0; fl_device_get_menu_item(device, control->id, i, &item) == FL_OK; i++) {
        printf("    %" PRId64 ": %s\n", item.value, item.name);
    }
}

static int show(const char *path) {
    fl_device *device = NULL;
    if (fl_device_open(path, &device) < 0) {
        return fail();
    }
    uint32_t fourcc;
    for (size_t i = 0; fl_device_get_format(device, false, i, &fourcc) == FL_OK; i++) {
        char text[16];
        fl_fourcc_text(fourcc, text);
        printf("  %s\n", text);
        print_sizes(device, fourcc);
    }
    fl_control control = FL_INIT(fl_control);
    for (size_t i = 0; fl_device_get_control_info(device, i, &control) == FL_OK; i++) {
        print_control(device, &control);
    }
    fl_device_close(&device);
    return 0;
}

static int set(const char *path, const char *control, const char *value) {
    fl_device *device = NULL;
    int64_t now = 0;
    if (fl_device_open(path, &device) < 0) {
        return fail();
    }
    uint32_t id = (uint32_t)strtoul(control, NULL, 0);
    fl_status status = fl_device_set_control(device, id, strtoll(value, NULL, 0), &now);
    int result = status < 0 ? fail() : 0;
    if (status == FL_OK) {
        printf("now %" PRId64 "\n", now);
    }
    fl_device_close(&device);
    return result;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: devices [PATH [CONTROL VALUE]]\n";
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc == 3 || argc > 4 || (argc > 1 && argv[1][0] == '-')) {
        fputs(usage, stderr);
        return 2;
    }
    return argc == 1 ? list() : argc == 2 ? show(argv[1]) : set(argv[1], argv[2], argv[3]);
}
