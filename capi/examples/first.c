/* Opens the first camera, or the test pattern, and prints the time and size of 30 frames. */
#include <inttypes.h>
#include <stdio.h>

#include <framelease.h>

int main(void) {
    fl_station *camera = NULL;
    fl_camera_options wanted = FL_INIT(fl_camera_options); /* all other fields are 0: the defaults */
    wanted.width = 1280;
    wanted.height = 720;
    fl_status status = fl_camera_open(&wanted, &camera);
    if (status == FL_ERROR_NOT_FOUND) {
        fl_pattern_options pattern = FL_INIT(fl_pattern_options);
        pattern.width = 1280;
        pattern.height = 720;
        status = fl_pattern_open(&pattern, &camera);
    }
    if (status < 0) {
        fprintf(stderr, "%s\n", fl_message(NULL));
        return 1;
    }
    int frames = 0;
    while (frames < 30 && status >= 0 && status != FL_ENDED) {
        fl_event event = FL_INIT(fl_event);
        status = fl_station_recv(camera, 1000, &event);
        if (status == FL_OK && event.kind == FL_EVENT_FRAME) {
            fl_frame_info info = FL_INIT(fl_frame_info);
            fl_frame_get_info(event.frame, &info);
            printf("%" PRIu64 " ns: %" PRIu32 " bytes in dma-buf %d\n", info.timestamp_ns, info.memory[0].bytes,
                   info.memory[0].fd);
            frames++;
        } else if (status == FL_OK) {
            printf("event %" PRIu32 " %s\n", event.kind, event.text);
        }
        fl_event_clear(&event); /* gives the frame back to the camera */
    }
    if (status < 0) {
        fprintf(stderr, "%s\n", fl_message(camera));
    }
    fl_station_close(&camera);
    return status < 0;
}
