// liblpsnet: the operators of LPSNet behind a C API.
//
// Pointers are host pointers for LPS_CPU and device pointers for LPS_CUDA, arrays are contiguous, and arrays of
// pointers (`ltrb`, `borderness`) live on the host. Nothing here allocates device memory or synchronises: the caller
// gives a workspace of at least the size that lps_*_workspace_size asks for. Every output has a fixed size; what is
// not filled is padding, and a count says where the padding starts.
//
// Coordinates are continuous: pixel (row i, column j) covers [j, j + 1) x [i, i + 1) and its centre is at + 0.5.
// Boxes are x1, y1, x2, y2 in pixels of the network's input.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LPS_API __attribute__((visibility("default")))
#else
#define LPS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  LPS_OK = 0,
  LPS_INVALID_ARGUMENT = 1,
  LPS_CUDA_ERROR = 2,
  LPS_NOT_BUILT = 3,  // the device is known, but this build has no code for it
  LPS_OUT_OF_MEMORY = 4,
} LpsStatus;

typedef enum { LPS_CPU = 0, LPS_CUDA = 1 } LpsDevice;

typedef struct {
  int32_t device;         // LpsDevice
  void* stream;           // cudaStream_t, ignored on the CPU
  void* workspace;        // may be null where the size asked for is 0
  size_t workspace_size;  // bytes
} LpsContext;

// What went wrong in the last call of this thread that did not return LPS_OK.
LPS_API const char* lps_last_error(void);

// How many threads one call may use on the CPU; at least 1. The default is the number of cores.
LPS_API LpsStatus lps_set_num_threads(int32_t num_threads);
LPS_API int32_t lps_num_threads(void);

// How many CUDA devices there are; 0 also where this build has no CUDA code.
LPS_API int32_t lps_num_cuda_devices(void);

// The feature levels of the box head. ------------------------------------------------------------------------
#define LPS_MAX_LEVELS 8

typedef struct {
  int32_t num_levels;
  int32_t height[LPS_MAX_LEVELS];
  int32_t width[LPS_MAX_LEVELS];
  int32_t stride[LPS_MAX_LEVELS];  // input pixels per feature pixel
} LpsLevels;

// Resizes an image by an antialiased bilinear filter, normalises it and pads it with zeros. ---------------------
typedef struct {
  int32_t in_height, in_width;
  int64_t in_row_stride;                  // bytes from one image row to the next
  int32_t resized_height, resized_width;  // the part of the output that is image
  int32_t out_height, out_width;          // with the padding at the bottom and at the right
  float mean[3], std[3];                  // of the channels of the output, in units of 0..255
  int32_t reverse_channels;               // 1: the image is BGR and the output RGB, or the other way round
  int32_t channels_last;                  // 0: [3, out_height, out_width]; 1: [out_height, out_width, 3]
  int32_t out_dtype;                      // LpsDtype, but not LPS_FLOAT64: computed in float32 and rounded once
} LpsResizeNormalizeParams;

LPS_API size_t lps_resize_normalize_workspace_size(const LpsResizeNormalizeParams* params, LpsDevice device);

LPS_API LpsStatus lps_resize_normalize(const LpsResizeNormalizeParams* params, const LpsContext* context,
                                       const uint8_t* image,  // [in_height, in_width, 3], rows in_row_stride apart
                                       void* out);            // see channels_last and out_dtype

// Boxes from the dense outputs: thing classes above a threshold, the best of each level. ---------------------
// Location (i, j) of a level lies at ((j + 0.5) * stride, (i + 0.5) * stride); the probabilities are the softmax, over
// all classes, of the logits read bilinearly there. Equal scores: the lower location, then the lower class. A candidate
// whose probability, border-ness or distances are NaN or infinite is dropped.
//
// Logits of 16 bits are widened to float32, in which everything is computed; so in the operators that follow.
typedef enum { LPS_SCORE_PRODUCT = 0, LPS_SCORE_SQRT = 1 } LpsScoreFusion;

typedef struct {
  int32_t num_classes;  // at most 255
  int32_t logits_height, logits_width, logits_stride;
  LpsLevels levels;
  int32_t image_height, image_width;  // the part of the network's input that is image; points outside are skipped
  float score_threshold;              // of the class probability, before the fusion with border-ness
  int32_t topk;                       // at most so many (point, class) pairs from each level
  int32_t score_fusion;               // LpsScoreFusion: p * b or sqrt(p * b)
  int32_t logits_dtype;               // LpsDtype, but not LPS_FLOAT64
  int32_t logits_channels_last;       // 1: [logits_height, logits_width, num_classes]
} LpsDecodeParams;

LPS_API size_t lps_decode_workspace_size(const LpsDecodeParams* params, LpsDevice device);

LPS_API LpsStatus lps_decode(const LpsDecodeParams* params, const LpsContext* context,
                             const void* logits,              // [num_classes, logits_height, logits_width]
                             const uint8_t* is_thing,         // [num_classes] 0 or 1
                             const float* const* ltrb,        // per level [4, height, width], pixels, at least 0
                             const float* const* borderness,  // per level [height, width], probabilities
                             float* boxes,                    // [num_levels * topk, 4], clipped to the image; padding 0
                             float* scores,        // [num_levels * topk] descending within a level; padding 0
                             int32_t* labels,      // [num_levels * topk]; padding -1
                             int32_t* box_levels,  // [num_levels * topk] index into levels; padding -1
                             int32_t* num_boxes);  // [1]

// Greedy non-maximum suppression within each class. -------------------------------------------------------
typedef struct {
  int32_t num_boxes;
  int32_t max_kept;
  float iou_threshold;  // a box is dropped when its IoU with a better box of its class is above this
} LpsNmsParams;

LPS_API size_t lps_nms_workspace_size(const LpsNmsParams* params, LpsDevice device);

LPS_API LpsStatus lps_nms(const LpsNmsParams* params, const LpsContext* context,
                          const float* boxes,        // [num_boxes, 4] xyxy; NaN or infinite: never kept
                          const float* scores,       // [num_boxes], any order; NaN: never kept
                          const int32_t* labels,     // [num_boxes]
                          const int32_t* num_valid,  // [1] or null: only so many boxes are read
                          int32_t* kept,       // [max_kept] indices by descending score, ties by lower index; then -1
                          int32_t* num_kept);  // [1]

// The best class of every output pixel, from logits of a smaller size, without the volume at output size. --------
// Output pixel x reads the logits bilinearly at (x + 0.5) * scale_x - 0.5, clamped to the map. Ties: the lower class.
// A value of NaN or -infinity never wins; where no class wins, or none is allowed, the label is 255.
typedef struct {
  int32_t num_classes;  // at most 255; label 255 means void
  int32_t in_height, in_width;
  int32_t out_height, out_width;
  float scale_y, scale_x;        // logit pixels per output pixel
  int32_t logits_dtype;          // LpsDtype, but not LPS_FLOAT64
  int32_t logits_channels_last;  // 1: [in_height, in_width, num_classes]
} LpsUpsampleArgmaxParams;

LPS_API size_t lps_upsample_argmax_workspace_size(const LpsUpsampleArgmaxParams* params, LpsDevice device);

LPS_API LpsStatus lps_upsample_argmax(const LpsUpsampleArgmaxParams* params, const LpsContext* context,
                                      const void* logits,      // [num_classes, in_height, in_width]
                                      const uint8_t* allowed,  // [num_classes] or null: classes that may win
                                      uint8_t* labels);        // [out_height, out_width]

// The panoptic head: boxes pasted onto the label map. -----------------------------------------------------------
// A pixel belongs to a box when its centre, ((x + 0.5) * scale_x, (y + 0.5) * scale_y), is in [x1, x2) x [y1, y2); to
// its mask when it also has the box's label. All in float32, in the order of operations of csrc/core.
//  1. By descending score: a box whose mask is empty, or occupied by kept boxes by more than overlap_threshold of its
//     pixels, is discarded; else it is kept and its mask becomes occupied. A box takes no part when its score is below
//     paste_score or NaN, its label is no thing class or a coordinate is NaN.
//  2. A pixel in the masks of several kept boxes goes to the one whose border-ness there is closest to that predicted
//  by
//     the level the box came from, read bilinearly at the pixel's centre (NaN, or a level out of range: infinitely
//     far); or to the one with the best score; or to the smallest. Ties: the earlier box.
//  3. Each stuff class is one segment, void where it is below stuff_area_limit. Thing pixels that no box claims are
//  void
//     or take their stuff_labels before areas are counted. Labels from num_classes on are void.
// A box that gets no pixel has no segment.
typedef enum {
  LPS_CLOSEST_BORDERNESS = 0,
  LPS_HIGHEST_CONFIDENCE = 1,
  LPS_SMALLEST_AREA = 2,
} LpsAssignment;

typedef struct {
  int32_t num_boxes;
  int32_t num_classes;
  int32_t height, width;     // of the output
  float scale_y, scale_x;    // input pixels per output pixel
  LpsLevels levels;          // of the border-ness maps; num_levels may be 0 unless LPS_CLOSEST_BORDERNESS
  float paste_score;         // boxes below it are not pasted
  float overlap_threshold;   // a box whose mask is occupied by more than this share is discarded
  int32_t assignment;        // LpsAssignment
  int32_t stuff_area_limit;  // output pixels; a stuff segment below it becomes void
} LpsPasteBoxesParams;

LPS_API size_t lps_paste_boxes_workspace_size(const LpsPasteBoxesParams* params, LpsDevice device);

// The segment table has num_boxes + num_classes rows; row i describes id i + 1. Things come first, by score, then
// stuff, by class.
LPS_API LpsStatus lps_paste_boxes(const LpsPasteBoxesParams* params, const LpsContext* context,
                                  const uint8_t* labels,           // [height, width], 255: void
                                  const uint8_t* is_thing,         // [num_classes] 0 or 1
                                  const float* boxes,              // [num_boxes, 4]
                                  const float* scores,             // [num_boxes] descending
                                  const int32_t* box_labels,       // [num_boxes]
                                  const int32_t* box_levels,       // [num_boxes] index into levels
                                  const int32_t* num_valid,        // [1] or null: only so many boxes are read
                                  const float* const* borderness,  // per level [height, width], probabilities
                                  const uint8_t* stuff_labels,     // [height, width] or null: the best stuff class,
                                                                   // taken by thing pixels that no box claims
                                  int32_t* ids,                    // [height, width], 0: void
                                  int32_t* segment_labels,         // [num_boxes + num_classes]; padding -1
                                  float* segment_scores,           // [num_boxes + num_classes] 1 for stuff; padding 0
                                  int32_t* segment_areas,          // [num_boxes + num_classes] pixels; padding 0
                                  int32_t* segment_boxes,  // [num_boxes + num_classes, 4] tight xyxy in output pixels,
                                                           // x2, y2 exclusive; padding 0
                                  int32_t* num_segments);  // [1]

// decode -> nms -> upsample_argmax -> paste_boxes in one call. ------------------------------------------------
// The scales of the operators are image_height / out_height and image_width / out_width, for the logits divided by
// logits_stride, each rounded once to float32.
typedef struct {
  int32_t num_classes;
  int32_t logits_height, logits_width, logits_stride;
  LpsLevels levels;
  int32_t image_height, image_width;  // the part of the network's input that is image
  int32_t out_height, out_width;      // of the panoptic map; the image is stretched to it
  float score_threshold;
  int32_t topk;
  int32_t score_fusion;  // LpsScoreFusion
  float iou_threshold;
  int32_t max_detections;
  float paste_score;
  float overlap_threshold;
  int32_t assignment;            // LpsAssignment
  int32_t stuff_area_limit;      // output pixels
  int32_t fill_stuff;            // 1: thing pixels that no box claims take the best stuff class
  int32_t logits_dtype;          // LpsDtype, but not LPS_FLOAT64
  int32_t logits_channels_last;  // 1: [logits_height, logits_width, num_classes]
} LpsPostprocessParams;

LPS_API size_t lps_postprocess_workspace_size(const LpsPostprocessParams* params, LpsDevice device);

LPS_API LpsStatus lps_postprocess(const LpsPostprocessParams* params, const LpsContext* context,
                                  const void* logits,              // [num_classes, logits_height, logits_width]
                                  const uint8_t* is_thing,         // [num_classes]
                                  const float* const* ltrb,        // per level [4, height, width]
                                  const float* const* borderness,  // per level [height, width]
                                  float* boxes,                    // [max_detections, 4] by descending score
                                  float* scores,                   // [max_detections]
                                  int32_t* box_labels,             // [max_detections]
                                  int32_t* num_detections,         // [1]
                                  int32_t* ids,                    // [out_height, out_width]
                                  int32_t* segment_labels,         // [max_detections + num_classes]
                                  float* segment_scores,           // [max_detections + num_classes]
                                  int32_t* segment_areas,          // [max_detections + num_classes]
                                  int32_t* segment_boxes,          // [max_detections + num_classes, 4]
                                  int32_t* num_segments);          // [1]

// Deformable convolution, v1 (no mask) and v2: the gather of its columns and the scatter of their gradients. --------
// The matrix product between them is the caller's. A call works on the output positions begin .. end of one image, a
// position being row * out_width + column, so that the columns of a tile are all that exists of them.
//
// A sample at (y, x), pixel (i, j) being at (i, j), is bilinear over an image that is zero outside. A sample at
// y <= -1, y >= height, x <= -1, x >= width or NaN is 0, whatever its mask, and passes no gradient on. A corner whose
// bilinear weight is 0 counts as 0 even where the input is infinite or NaN.
typedef enum {
  LPS_FLOAT32 = 0,
  LPS_FLOAT64 = 1,
  LPS_FLOAT16 = 2,
  LPS_BFLOAT16 = 3,
} LpsDtype;

typedef struct {
  int32_t dtype;                    // LpsDtype of every array
  int32_t channels, height, width;  // of the input
  int32_t out_height, out_width;    // (height + 2 padding - dilation (kernel - 1) - 1) / stride + 1
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t padding_h, padding_w;
  int32_t dilation_h, dilation_w;
  int32_t offset_groups;  // divides channels
  int64_t begin, end;     // output positions
} LpsDeformColumnsParams;

LPS_API size_t lps_deform_columns_workspace_size(const LpsDeformColumnsParams* params, LpsDevice device);

LPS_API LpsStatus lps_deform_columns(
    const LpsDeformColumnsParams* params, const LpsContext* context,
    const void* input,   // [height, width, channels]: channels last, so that a sample is one contiguous read
    const void* offset,  // [offset_groups * kernel_h * kernel_w * 2 (dy, dx), out_height, out_width] pixels
    const void* mask,    // [offset_groups * kernel_h * kernel_w, out_height, out_width] or null: v1
    void* columns);      // [end - begin, kernel_h * kernel_w, channels]

LPS_API size_t lps_deform_columns_backward_workspace_size(const LpsDeformColumnsParams* params, LpsDevice device);

LPS_API LpsStatus lps_deform_columns_backward(const LpsDeformColumnsParams* params, const LpsContext* context,
                                              const void* input, const void* offset, const void* mask,
                                              const void* grad_columns,  // like columns
                                              void* grad_input,   // like input; added to, so zero before the first tile
                                              void* grad_offset,  // like offset; the positions of the tile are written
                                              void* grad_mask);   // like grad_offset; null without a mask

// The whole deformable convolution, forward only; the columns are never written to memory. -------------------------
// A sample, as above and in float32, is rounded once to the dtype; products are added up in float32, in no fixed order
// but in the same one in every run, then comes the bias, and the sum is rounded to the dtype.
typedef struct {
  int32_t dtype;                           // LpsDtype of input, weight and out, but not LPS_FLOAT64
  int32_t batch, channels, height, width;  // of the input; batch * height * width is below 2^31,
  int32_t out_channels;
  int32_t out_height, out_width;  // and with these too; as in LpsDeformColumnsParams, and so are the following
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t padding_h, padding_w;
  int32_t dilation_h, dilation_w;
  int32_t offset_groups;
  int32_t modulated;  // 1: v2, with a mask
} LpsDeformConv2dParams;

LPS_API size_t lps_deform_conv2d_workspace_size(const LpsDeformConv2dParams* params, LpsDevice device);

// 16-bit dtypes run on tensor cores where channels / offset_groups is a multiple of 8 and input and weight begin at
// multiples of 16 bytes; bfloat16 also wants compute capability 8.
LPS_API LpsStatus lps_deform_conv2d(
    const LpsDeformConv2dParams* params, const LpsContext* context,
    const void* input,    // [batch, height, width, channels]
    const float* offset,  // [batch, offset_groups * kernel_h * kernel_w * 2 (dy, dx), out_height, out_width] pixels
    const float* mask,    // [batch, offset_groups * kernel_h * kernel_w, out_height, out_width]; null unless modulated
    const void* weight,   // [out_channels, kernel_h * kernel_w, channels]
    const float* bias,    // [out_channels] or null
    void* out);           // [batch, out_height, out_width, out_channels]

// RoIAlign (He et al., ICCV 2017) over the levels of a feature pyramid, forward only. --------------------------------
// A box is cut into out_height x out_width bins; each is the mean of sampling_ratio^2 bilinear samples, in the middles
// of as many parts of it. Feature pixel i has its centre at (i + 0.5) * stride: the "aligned", half-pixel convention.
// Up to one pixel outside the outer centres the border is read; a sample further out counts as 0.
//
// A box reads one level: the one that box_levels says or, without them, floor(k0 + log2(sqrt(w h) / canonical_size)),
// clamped to the levels (FPN, equation 1), canonical_level being the index of level k0. The output is 0 for a box with
// a coordinate that is NaN or infinite, for one on a level that does not exist, and from num_valid on. A feature that
// is NaN or infinite makes every sample between it and its neighbours so, or NaN.
typedef struct {
  int32_t num_boxes;
  int32_t channels;
  LpsLevels levels;
  int32_t out_height, out_width;
  int32_t sampling_ratio;  // per axis of a bin; 0: ceil(length of the bin), from 1 to the length of the map
  int32_t canonical_level;
  float canonical_size;  // input pixels
} LpsRoiAlignParams;

LPS_API size_t lps_roi_align_workspace_size(const LpsRoiAlignParams* params, LpsDevice device);

LPS_API LpsStatus lps_roi_align(const LpsRoiAlignParams* params, const LpsContext* context,
                                const float* const* features,  // per level [height, width, channels]: channels last
                                const float* boxes,            // [num_boxes, 4]
                                const int32_t* box_levels,     // [num_boxes] index into levels, or null: by size
                                const int32_t* num_valid,      // [1] or null: only so many boxes are read
                                float* out);                   // [num_boxes, out_height, out_width, channels]

#ifdef __cplusplus
}
#endif
