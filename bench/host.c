/* SPDX-License-Identifier: MIT */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "host.h"

/* Ticks of all CPUs, as in the first line of /proc/stat. */
struct ticks {
	double busy, steal, all;
	double ours; /* of this process and those it has waited for, seconds */
};

static struct ticks at_begin;

static void
read_line(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");

	if (!file || !fgets(text, (int)size, file))
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (file)
		fclose(file);
}

static double
seconds(const struct timeval *time)
{
	return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static double
own_seconds(void)
{
	static const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
	double sum = 0;

	for (int i = 0; i < 2; i++) {
		struct rusage usage;

		getrusage(whose[i], &usage);
		sum += seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
	}
	return sum;
}

static struct ticks
read_ticks(void)
{
	char line[512];
	unsigned long long user = 0, nice = 0, kernel = 0, idle = 0, iowait = 0, irq = 0, soft = 0;
	unsigned long long steal = 0;
	struct ticks ticks;

	read_line("/proc/stat", line, sizeof(line));
	sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &kernel, &idle,
		&iowait, &irq, &soft, &steal);
	ticks.busy = (double)(user + nice + kernel + irq + soft);
	ticks.steal = (double)steal;
	ticks.all = ticks.busy + ticks.steal + (double)(idle + iowait);
	ticks.ours = own_seconds();
	return ticks;
}

/* The value of a line "key : value" of /proc/cpuinfo; the first. */
static bool
read_cpuinfo(const char *key, char *text, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t capacity = 0;
	bool found = false;

	while (file && !found && getline(&line, &capacity, file) > 0) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, key, strlen(key)) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(text, size, "%s", colon[1] == ' ' ? colon + 2 : colon + 1);
		found = true;
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool
is_virtual(void)
{
	char flags[8192], type[64];

	if (read_cpuinfo("flags", flags, sizeof(flags)) && strstr(flags, " hypervisor"))
		return true;
	read_line("/sys/hypervisor/type", type, sizeof(type));
	return type[0] != '\0';
}

static long
read_number(const char *path)
{
	char text[64];

	read_line(path, text, sizeof(text));
	return text[0] ? strtol(text, NULL, 10) : -1;
}

void
bench_host_begin(struct bench_host *host, unsigned int cpu)
{
	struct utsname name;
	char path[128];

	*host = (struct bench_host){0};
	if (!read_cpuinfo("model name", host->cpu, sizeof(host->cpu)))
		snprintf(host->cpu, sizeof(host->cpu), "unknown");
	if (uname(&name) == 0) {
		snprintf(host->kernel, sizeof(host->kernel), "%s %s", name.sysname, name.release);
		snprintf(host->machine, sizeof(host->machine), "%s", name.machine);
	}
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu);
	read_line(path, host->governor, sizeof(host->governor));
	host->is_virtual = is_virtual();
	host->n_cpus = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	if (getloadavg(&host->load_1min, 1) != 1)
		host->load_1min = NAN;
	host->wmem_default = read_number("/proc/sys/net/core/wmem_default");
	host->wmem_max = read_number("/proc/sys/net/core/wmem_max");
	at_begin = read_ticks();
}

void
bench_host_end(struct bench_host *host)
{
	struct ticks now = read_ticks();
	double all = now.all - at_begin.all;
	double ours = (now.ours - at_begin.ours) * (double)sysconf(_SC_CLK_TCK);
	double others = now.busy - at_begin.busy - ours;

	host->steal_percent = all > 0 ? 100 * (now.steal - at_begin.steal) / all : NAN;
	/* Ticks and run times are counted in different ways: a little below 0 is 0. */
	host->others_percent = all > 0 ? fmax(0, 100 * others / all) : NAN;
}
