// Captions for frames: a guest in C, on wasi-libc. What bindings/ has was generated from wit/ and is committed, so
// that building needs no generator: `wit-bindgen c wit --world caption --out-dir bindings` (wit-bindgen-cli 0.61.1).

#include <inttypes.h>
#include <stdio.h>

#include "../bindings/caption.h"

// The bindings refer to an object with the component's type. The linker of the build script is given the WIT text
// instead.
void __component_type_object_force_link_caption(void) {}

static void caption(const caption_frame_t *frame, size_t others, caption_string_t *ret) {
    const caption_string_t *name = frame->label.is_some ? &frame->label.val : &frame->camera;
    const char *kind = frame->kind == CAPTION_KIND_GREY ? "grey" : "colour";
    char text[512];
    int length = snprintf(text, sizeof text, "%.*s: %" PRIu32 "x%" PRIu32 " in %s, the largest of %zu",
                          (int)(name->len < 256 ? name->len : 256), (const char *)name->ptr, frame->width,
                          frame->height, kind, others + 1);
    caption_string_dup_n(ret, text, length < 0 ? 0 : (size_t)length);
}

void exports_caption_caption(caption_choice_t *choice, caption_string_t *ret) {
    caption(&choice->frame, choice->others.len, ret);
    caption_choice_free(choice);
}

void exports_caption_caption_small(caption_small_choice_t *choice, caption_string_t *ret) {
    caption(&choice->frame, choice->others.len, ret);
    caption_small_choice_free(choice);
}
