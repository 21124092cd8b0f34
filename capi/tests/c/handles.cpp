// The header for C++: handles close themselves, move, and throw.
#include <cstdio>
#include <type_traits>
#include <vector>

#include <framelease.hpp>

static int wrong = 0;

static void expect(bool is_so, int line) {
    if (!is_so) {
        std::printf("line %d\n", line);
        wrong++;
    }
}
#define EXPECT(condition) expect((condition), __LINE__)

static_assert(!std::is_copy_constructible<fl::Station>::value, "a station has one owner");
static_assert(std::is_nothrow_move_constructible<fl::Frame>::value, "frames move");
static_assert(std::is_nothrow_move_assignable<fl::Event>::value, "events move");
static_assert(!std::is_copy_constructible<fl::Event>::value, "an event has one owner");

/* An event with a frame, which moves out of a function and into a place that holds another. */
static fl::Event event_of(fl_station *station) {
    fl::Event event;
    fl::ensure(fl_station_recv(station, 1000, event.out()), station);
    return event;
}

static void events() {
    fl::Station pattern;
    fl_pattern_options options = FL_INIT(fl_pattern_options);
    options.width = 64;
    options.height = 48;
    options.interval.numerator = 1;
    options.interval.denominator = 200;
    options.buffers = 4;
    fl::ensure(fl_pattern_open(&options, pattern.out()));
    fl::Event held = event_of(pattern.get());
    for (int i = 0; i < 9; i++) { // more than there are buffers
        const fl_frame *before = held->frame;
        held = event_of(pattern.get());
        EXPECT(held->kind == FL_EVENT_FRAME && held->frame != nullptr && held->frame != before);
    }
    fl::Event moved = std::move(held);
    EXPECT(held->frame == nullptr && moved->frame != nullptr); // NOLINT
    moved = std::move(moved);                                  // NOLINT
    EXPECT(moved->frame != nullptr);
    try {
        fl::Buffer buffer;
        fl::Pool pool;
        fl_layout layout = FL_INIT(fl_layout);
        fl::ensure(fl_layout_make(FL_FOURCC('G', 'R', 'E', 'Y'), 8, 8, 0, &layout));
        fl::ensure(fl_pool_create("memfd", &layout, 1, pool.out()));
        fl::ensure(fl_pool_acquire(pool.get(), 0, buffer.out()));
        fl::Buffer second;
        EXPECT(fl::check(fl_pool_acquire(pool.get(), 0, second.out())) == FL_NOTHING);
        fl::ensure(fl_pool_acquire(pool.get(), 0, second.out()));
        EXPECT(false);
    } catch (const fl::Error &error) {
        EXPECT(error.status == FL_NOTHING);
    }
}

static std::vector<fl::Frame> frames(std::size_t count) {
    fl::Station pattern;
    fl_pattern_options options = FL_INIT(fl_pattern_options);
    options.width = 64;
    options.height = 48;
    options.interval.numerator = 1;
    options.interval.denominator = 200;
    fl::ensure(fl_pattern_open(&options, pattern.out()));
    std::vector<fl::Frame> all;
    fl::Event event;
    while (all.size() < count) {
        if (fl::check(fl_station_recv(pattern.get(), 1000, event.out()), pattern.get()) == FL_OK &&
            event->kind == FL_EVENT_FRAME) {
            all.push_back(event.take_frame());
            EXPECT(event->frame == nullptr);
        }
    }
    return all; // The pattern is closed here, and its frames stay.
}

int main() {
    events();
    std::vector<fl::Frame> all = frames(3);
    fl::Frame second = all[0].share();
    all.clear();
    fl_frame_info info = FL_INIT(fl_frame_info);
    EXPECT(fl_frame_get_info(second.get(), &info) == FL_OK);
    fl::Mapping mapping;
    fl::ensure(fl_frame_map(second.get(), 1000, mapping.out()));
    second.reset();
    fl_pixels pixels;
    EXPECT(fl_mapping_plane(mapping.get(), 0, &pixels) == FL_OK && pixels.rows == 48);

    fl::Mapping moved = std::move(mapping);
    EXPECT(!mapping && moved);
    moved = std::move(moved); // NOLINT
    EXPECT(bool(moved));

    try {
        fl::Station none;
        fl::ensure(fl_pattern_open(nullptr, none.out()));
        EXPECT(false);
    } catch (const fl::Error &error) {
        EXPECT(error.status == FL_ERROR_INVALID_ARGUMENT);
        EXPECT(std::string(error.what()).find("options is NULL") != std::string::npos);
    }
    if (wrong == 0) {
        std::puts("handles: all as expected");
    }
    return wrong ? 1 : 0;
}
