/* Kills a process before a step that changes something: before it gives, or takes away, the name of a file, changes the network,
 * or asks another service for a change: Glance, Neutron, Placement, Docker, Nova's conductor. Which one is in the first eight bytes
 * of the file STEPS: 1 is the next; with 0 it lives, and with -1 it lives, with a disk that keeps nothing. What the step was is
 * then written after it. For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    int64_t left;
    char step[248];
} *shared;

__attribute__((constructor)) static void find_file(void)
{
    const char *path = getenv("STEPS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *content = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (content == MAP_FAILED)
        abort();
    close(file);
    shared = content;
    /* What the process starts is not to be killed. */
    unsetenv("LD_PRELOAD");
}

static void step(const char *what, size_t length)
{
    if (__atomic_load_n(&shared->left, __ATOMIC_SEQ_CST) > 0
        && __atomic_sub_fetch(&shared->left, 1, __ATOMIC_SEQ_CST) == 0) {
        snprintf(shared->step, sizeof shared->step, "%.*s", (int)length, what);
        kill(getpid(), SIGKILL);
    }
}

/* What a service is asked for over HTTP. */
static void step_if_asked(const char *bytes, size_t length)
{
    static const char *const methods[] = {"POST ", "PUT ", "PATCH ", "DELETE "};
    static const char *const changes[] = {"/v2/images", "/v2.0/ports", "/allocations", "/containers", "/v1."};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        size_t begin = strlen(methods[i]);
        if (length < begin || memcmp(bytes, methods[i], begin))
            continue;
        const char *end = memchr(bytes + begin, ' ', length - begin);
        size_t path = end ? (size_t)(end - bytes) : length;
        for (size_t j = 0; j < sizeof changes / sizeof *changes; j++)
            if (memmem(bytes + begin, path - begin, changes[j], strlen(changes[j])))
                return step(bytes, path);
    }
}

static int holds(const char *bytes, size_t length, const char *text)
{
    return memmem(bytes, length, text, strlen(text)) != NULL;
}

/* What a conductor, or a compute service, is asked for over AMQP. The reports of the service itself are no steps. */
static void step_if_told(const char *bytes, size_t length)
{
    static const char *const changes[] = {
        "objmethod\\\":\\\"save", "objmethod\\\":\\\"create", "objmethod\\\":\\\"destroy", "objmethod\\\":\\\"event_",
        "method\\\":\\\"resize_instance", "method\\\":\\\"finish_resize", "method\\\":\\\"finish_revert_resize",
    };
    if (holds(bytes, length, "name\\\":\\\"Service\\\"") || holds(bytes, length, "name\\\":\\\"ComputeNode\\\""))
        return;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        if (holds(bytes, length, changes[i])) {
            const char *object = memmem(bytes, length, "objinst", strlen("objinst"));
            const char *told = object ? object : memmem(bytes, length, changes[i], strlen(changes[i]));
            return step(told, (size_t)(bytes + length - told));
        }
}

static void step_if_sent(const void *bytes, size_t length)
{
    step_if_asked(bytes, length);
    step_if_told(bytes, length);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int rename(const char *from, const char *to)
{
    step(to, strlen(to));
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    step(path, strlen(path));
    return REAL(unlink)(path);
}

int linkat(int from, const char *name, int to, const char *other, int flags)
{
    step(other, strlen(other));
    return REAL(linkat)(from, name, to, other, flags);
}

int fsync(int file)
{
    if (__atomic_load_n(&shared->left, __ATOMIC_SEQ_CST) < 0) {
        errno = EIO;
        return -1;
    }
    return REAL(fsync)(file);
}

ssize_t send(int socket, const void *bytes, size_t length, int flags)
{
    step_if_sent(bytes, length);
    return REAL(send)(socket, bytes, length, flags);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    step_if_asked(bytes, length);
    return REAL(write)(file, bytes, length);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++)
        step_if_sent(parts[i].iov_base, parts[i].iov_len);
    return REAL(writev)(file, parts, count);
}

ssize_t sendto(int socket, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    const struct nlmsghdr *header = bytes;
    /* Of the four kinds for each object the third only asks. */
    if (to && to->sa_family == AF_NETLINK && length >= sizeof *header && header->nlmsg_type >= RTM_BASE
        && (header->nlmsg_type - RTM_BASE) % 4 != 2) {
        char name[32];
        step(name, (size_t)snprintf(name, sizeof name, "netlink %d", header->nlmsg_type));
    }
    return REAL(sendto)(socket, bytes, length, flags, to, size);
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const arguments[], char *const environment[])
{
    static const char *const changes[] = {"add-port", "del-port"};
    for (size_t i = 0; arguments[i]; i++)
        for (size_t j = 0; j < sizeof changes / sizeof *changes; j++)
            if (!strcmp(arguments[i], changes[j]))
                step(changes[j], strlen(changes[j]));
    return REAL(posix_spawnp)(pid, file, actions, attributes, arguments, environment);
}
