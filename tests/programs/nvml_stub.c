/* A stub of NVIDIA's management library: what the tests load as libnvidia-ml.so.1.
 *
 * It is NOT the real library and speaks to no hardware: none was available where muster was made. The
 * functions are those that the helper asks by way of nvml-wrapper, with the signatures of the public
 * nvml.h; what they answer is made up in the likeness of an HGX board. NVML_STUB chooses:
 *   gpus    8 GPUs with NVLink to a switch (default)
 *   mig     1 GPU, cut into 2 instances
 *   hang    never answers the count of GPUs
 *   crash   dies of SIGSEGV at the count of GPUs
 *   broken  starts, and says that the driver is not loaded
 *   lost    2 GPUs, one of which has fallen off the bus
 * NVML_STUB_GPUS is the number of GPUs, at most 8, where it is none of these that have a number of their own.
 * Compiled with -DOLD it lacks what drivers before 2021 lack. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef int nvmlReturn_t;
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_LOST = 15 };
typedef struct device { int index, instance; } *nvmlDevice_t;
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } nvmlPciInfo_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpuInstance, computeInstance; } nvmlProcessInfo_t;

#define GIB (1ULL << 30)
static struct device gpus[8];
static const unsigned buses[8] = {0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf};

static int mode(const char *name) {
    const char *set = getenv("NVML_STUB");
    return strcmp(set ? set : "gpus", name) == 0;
}

nvmlReturn_t nvmlInit_v2(void) { return mode("broken") ? DRIVER_NOT_LOADED : SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "stub"; }

static nvmlReturn_t text(char *out, unsigned length, const char *value) {
    if (strlen(value) >= length) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned length) { return text(out, length, "535.104.05"); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { *version = 12020; return SUCCESS; }
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12020; return SUCCESS; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (mode("hang")) for (;;) pause();
    if (mode("crash")) *(volatile int *)0 = 0;
    const char *some = getenv("NVML_STUB_GPUS");
    *count = mode("mig") ? 1 : mode("lost") ? 2 : some ? (unsigned)atoi(some) : 8;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if (index >= 8) return INVALID_ARGUMENT;
    gpus[index].index = (int)index;
    gpus[index].instance = -1;
    *device = &gpus[index];
    return SUCCESS;
}

/* A GPU that has fallen off the bus answers everything so. */
#define ASK(device) do { if (mode("lost") && (device)->index == 1) return GPU_LOST; } while (0)

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned length) {
    ASK(device);
    return text(out, length, device->instance >= 0 ? "NVIDIA H100 80GB HBM3 MIG 3g.40gb" : "NVIDIA H100 80GB HBM3");
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned length) {
    char value[64];
    ASK(device);
    snprintf(value, sizeof value, "%s-5717b000-0000-0000-0000-00000000000%d", device->instance >= 0 ? "MIG" : "GPU",
             device->instance >= 0 ? device->instance : device->index);
    return text(out, length, value);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    ASK(device);
    memset(pci, 0, sizeof *pci);
    pci->bus = buses[device->index];
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    ASK(device);
    *minor = (unsigned)device->index;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    ASK(device);
    *memory = (nvmlMemory_t){.total = 80 * GIB, .free = 79 * GIB, .used = GIB};
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, unsigned *compute) {
    ASK(device);
    *compute = 3;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *now, unsigned *next) {
    ASK(device);
    *now = *next = 1;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned kind, unsigned counter, unsigned long long *count) {
    (void)counter;
    ASK(device);
    *count = kind == 1 && device->index == 7 ? 2 : 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *degrees) {
    (void)sensor;
    ASK(device);
    *degrees = 30 + (unsigned)device->index;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    ASK(device);
    *rates = (nvmlUtilization_t){.gpu = 10 * (unsigned)device->index, .memory = 5};
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, unsigned *level) {
    *level = one->index / 4 == other->index / 4 ? 40 : 50;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *active) {
    ASK(device);
    if (link >= 18 || !mode("gpus")) return NOT_SUPPORTED;
    *active = 1;
    return SUCCESS;
}

/* To an NVSwitch, but for one link between the first two GPUs. */
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, nvmlPciInfo_t *pci) {
    memset(pci, 0, sizeof *pci);
    unsigned bus = link == 0 && device->index < 2 ? buses[1 - device->index] : 0x05;
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", bus);
    return SUCCESS;
}

static nvmlReturn_t processes(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out) {
    ASK(device);
    unsigned there = device->index == 0, room = *count;
    *count = there;
    if (room < there) return INSUFFICIENT_SIZE;
    if (there) *out = (nvmlProcessInfo_t){4242, GIB, ~0U, ~0U};
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out) {
    return processes(device, count, out);
}

#ifndef OLD
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out) {
    return processes(device, count, out);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    unsigned long long total = (device->instance >= 0 ? 40 : 80) * GIB;
    ASK(device);
    memory->total = total;
    memory->used = GIB;
    memory->free = total - GIB;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *now, unsigned *next) {
    ASK(device);
    *now = *next = (unsigned)mode("mig");
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    (void)device;
    *count = 7;
    return SUCCESS;
}

static struct device instances[2];

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *instance) {
    (void)device;
    if (index >= 2) return NOT_FOUND;
    instances[index].instance = (int)index;
    *instance = &instances[index];
    return SUCCESS;
}
#endif
