/* framelease for C++17: handles that close themselves, and errors as exceptions. The rest is the C interface: get()
 * gives the handle.
 *
 *     fl::Station camera;
 *     fl::ensure(fl_camera_open(nullptr, camera.out()));
 *     fl::Event event;
 *     while (fl::check(fl_station_recv(camera.get(), 1000, event.out()), camera.get()) != FL_ENDED) {
 *         if (event->kind == FL_EVENT_FRAME) {
 *             fl::Frame frame = event.take_frame(); // kept beyond the event
 *         }
 *     }
 */
#ifndef FRAMELEASE_HPP
#define FRAMELEASE_HPP

#include <stdexcept>
#include <string>
#include <utility>

#include <framelease.h>

namespace fl {

/* A handle that is closed once. Movable, not copyable. */
template <typename T, void (*close)(T **)> class Handle {
public:
    Handle() noexcept = default;
    explicit Handle(T *owned) noexcept : handle(owned) {}
    Handle(Handle &&other) noexcept : handle(other.release()) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            reset(other.release());
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { close(&handle); }

    T *get() const noexcept { return handle; }
    explicit operator bool() const noexcept { return handle != nullptr; }
    /* For the functions that open or create: closes what the handle has, and gives the place for another. */
    T **out() noexcept {
        close(&handle);
        return &handle;
    }
    /* For the functions that take a handle and make it NULL. */
    T **in() noexcept { return &handle; }
    [[nodiscard]] T *release() noexcept { return std::exchange(handle, nullptr); }
    void reset(T *owned = nullptr) noexcept {
        close(&handle);
        handle = owned;
    }

private:
    T *handle = nullptr;
};

using Station = Handle<fl_station, fl_station_close>;
using Mapping = Handle<fl_mapping, fl_mapping_close>;
using Buffers = Handle<fl_buffers, fl_buffers_close>;
using Buffer = Handle<fl_buffer, fl_buffer_release>;
using Pool = Handle<fl_pool, fl_pool_close>;
using Fanout = Handle<fl_fanout, fl_fanout_close>;
using Tensor = Handle<fl_tensor, fl_tensor_close>;
using Device = Handle<fl_device, fl_device_close>;
using DeviceList = Handle<fl_device_list, fl_device_list_close>;

/* A counted handle. share() adds a reference. */
template <typename T, T *(*ref)(T *), void (*unref)(T **)> class Counted : public Handle<T, unref> {
public:
    using Handle<T, unref>::Handle;
    Counted share() const noexcept { return Counted(ref(this->get())); }
};

using Frame = Counted<fl_frame, fl_frame_ref, fl_frame_unref>;
using Packet = Counted<fl_packet, fl_packet_ref, fl_packet_unref>;

/* An event, which gives back what it holds. Movable, not copyable. */
class Event {
public:
    Event() noexcept : event(FL_INIT(fl_event)) {}
    Event(Event &&other) noexcept : event(std::exchange(other.event, FL_INIT(fl_event))) {}
    Event &operator=(Event &&other) noexcept {
        if (this != &other) {
            *out() = std::exchange(other.event, FL_INIT(fl_event));
        }
        return *this;
    }
    Event(const Event &) = delete;
    Event &operator=(const Event &) = delete;
    ~Event() { fl_event_clear(&event); }

    /* For fl_station_recv(). */
    fl_event *out() noexcept {
        fl_event_clear(&event);
        return &event;
    }
    const fl_event *operator->() const noexcept { return &event; }
    Frame take_frame() noexcept { return Frame(std::exchange(event.frame, nullptr)); }
    Packet take_packet() noexcept { return Packet(std::exchange(event.packet, nullptr)); }
    Buffer take_buffer() noexcept { return Buffer(std::exchange(event.buffer, nullptr)); }

private:
    fl_event event;
};

/* What check() throws. */
class Error : public std::runtime_error {
public:
    Error(fl_status status_, const char *message) : std::runtime_error(message), status(status_) {}
    const fl_status status;
};

/* Returns a status that is not an error, such as FL_NOTHING, and throws otherwise. Give the station, if the call has
 * one.
 */
[[nodiscard]] inline fl_status check(fl_status status, fl_station *station = nullptr) {
    if (status < 0) {
        throw Error(status, fl_message(station));
    }
    return status;
}

/* Throws unless the status is FL_OK: for calls that open, fill or change something. */
inline void ensure(fl_status status, fl_station *station = nullptr) {
    if (check(status, station) != FL_OK) {
        throw Error(status, fl_status_name(status));
    }
}

} // namespace fl

#endif /* FRAMELEASE_HPP */
