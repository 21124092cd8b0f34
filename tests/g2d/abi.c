/*
 * Our own declarations of the structures in the i.MX 2D library's headers, made from their numbers, not their text.
 * It is compiled and never run: the assertions are the test. ADDRESS is `int` (legacy) or `unsigned long` (modern).
 */
#include <stddef.h>

typedef ADDRESS address;

struct surface {
    unsigned format;
    address planes[3];
    int left, top, right, bottom, stride, width, height;
    unsigned blendfunc;
    int global_alpha, clrcolor;
    unsigned rot;
};
struct surface_pair { struct surface s, d; };
struct surface_ex { struct surface base; unsigned tiling, ts[4]; int reserved[8]; };
struct buf { void *buf_handle, *buf_vaddr; address buf_paddr; int buf_size; };
struct surface_dmabuf { struct surface base; int plane_fd[3]; unsigned plane_offset[3]; };
struct warp { address addr; unsigned format; int bpp, width, height; unsigned start[2], delta[4]; };

#define SIZE(type, n) _Static_assert(sizeof(struct type) == (n), #type)
#define AT(type, field, n) _Static_assert(offsetof(struct type, field) == (n), #type "." #field)

#if defined(__LP64__) && defined(MODERN)
SIZE(surface, 80); AT(surface, planes, 8); AT(surface, left, 32); AT(surface, stride, 48);
AT(surface, clrcolor, 68); AT(surface, rot, 72);
SIZE(surface_pair, 160); AT(surface_pair, d, 80);
SIZE(surface_ex, 136); AT(surface_ex, tiling, 80); AT(surface_ex, ts, 84);
SIZE(buf, 32); AT(buf, buf_paddr, 16); AT(buf, buf_size, 24);
SIZE(surface_dmabuf, 104); AT(surface_dmabuf, plane_fd, 80); AT(surface_dmabuf, plane_offset, 92);
SIZE(warp, 48); AT(warp, delta[3], 44);
#elif defined(__LP64__)
SIZE(surface, 60); AT(surface, planes, 4); AT(surface, left, 16); AT(surface, stride, 32);
AT(surface, clrcolor, 52); AT(surface, rot, 56);
SIZE(surface_pair, 120); AT(surface_pair, d, 60);
SIZE(surface_ex, 112); AT(surface_ex, tiling, 60); AT(surface_ex, ts, 64);
SIZE(buf, 24); AT(buf, buf_paddr, 16); AT(buf, buf_size, 20);
SIZE(warp, 44); AT(warp, delta[3], 40);
#else
/* Both layouts are the same. */
SIZE(surface, 60); AT(surface, planes, 4); AT(surface, left, 16); AT(surface, stride, 32);
AT(surface, clrcolor, 52); AT(surface, rot, 56);
SIZE(surface_pair, 120);
SIZE(surface_ex, 112); AT(surface_ex, tiling, 60);
SIZE(buf, 16); AT(buf, buf_paddr, 8); AT(buf, buf_size, 12);
SIZE(surface_dmabuf, 84); AT(surface_dmabuf, plane_fd, 60); AT(surface_dmabuf, plane_offset, 72);
SIZE(warp, 44); AT(warp, delta[3], 40);
#endif
