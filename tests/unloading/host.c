/* Loads a library, uses it on a thread of its choice, may close it, and ends in a way of its choice:
 * host LIBRARY HOW main|other close|keep exit|_exit|pthread_exit|return */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char **arguments;

/* Waits until the library has no thread left: as long as it has one, the C library does not close it. */
static void wait_for_threads(int left) {
    for (int tries = 0; tries < 10000; tries++) {
        int tasks = -2;
        DIR *all = opendir("/proc/self/task");
        while (readdir(all))
            tasks++;
        closedir(all);
        if (tasks <= left)
            return;
        usleep(1000);
    }
    _exit(95);
}

static void *use(void *unused) {
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(90);
    }
    int (*plugin_use)(int) = (int (*)(int))dlsym(library, "plugin_use");
    if (!plugin_use || plugin_use(atoi(arguments[2])))
        _exit(91);
    /* 2: the client was left open. */
    if (!(atoi(arguments[2]) & 2))
        wait_for_threads(!strcmp(arguments[3], "main") ? 1 : 2);
    if (!strcmp(arguments[4], "close") && dlclose(library))
        _exit(92);
    return unused;
}

int main(int count, char **given) {
    char byte;
    arguments = given;
    if (count != 6)
        return 93;
    if (!strcmp(given[3], "main")) {
        use(NULL);
    } else {
        pthread_t thread;
        if (pthread_create(&thread, NULL, use, NULL) || pthread_join(thread, NULL))
            return 94;
    }
    puts("used");
    fflush(stdout);
    /* Until whoever waits for the end has seen enough. */
    while (read(0, &byte, 1) > 0)
        ;
    if (!strcmp(given[5], "exit"))
        exit(3);
    if (!strcmp(given[5], "_exit"))
        _exit(4);
    if (!strcmp(given[5], "pthread_exit"))
        pthread_exit(NULL);
    return 5;
}
