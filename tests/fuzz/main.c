/* SPDX-License-Identifier: MIT */

/* Gives a target each file of the directories that are named, without any fuzzer. */

#include <dirent.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX (1 << 20)

static void
try_file(const char *path)
{
	static uint8_t input[INPUT_MAX];
	FILE *file = fopen(path, "re");
	uint8_t *exact;
	size_t size;

	require(file);
	size = fread(input, 1, sizeof(input), file);
	require(!ferror(file));
	require(fclose(file) == 0);
	exact = malloc(size ? size : 1);
	require(exact);
	memcpy(exact, input, size);
	(void)fprintf(stderr, "%s\n", path);
	(void)LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static unsigned int
try_directory(const char *directory)
{
	DIR *entries = opendir(directory);
	const struct dirent *entry;
	unsigned int n = 0;
	char path[4096];

	require(entries);
	while ((entry = readdir(entries))) {
		if (entry->d_name[0] == '.')
			continue;
		require(snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) <
			(int)sizeof(path));
		try_file(path);
		n++;
	}
	require(closedir(entries) == 0);
	return n;
}

/* A thread that closes descriptors may still be there for a moment; its stack would be a leak. */
static void
await_threads(void)
{
	unsigned int looks, n = 2;
	DIR *tasks;

	for (looks = 0; n > 1 && looks < 10000; looks++) {
		tasks = opendir("/proc/self/task");
		require(tasks);
		/* Beside the two dots. */
		for (n = 0; readdir(tasks); n++)
			continue;
		n -= 2;
		require(closedir(tasks) == 0);
		if (n > 1)
			(void)usleep(1000);
	}
}

int
main(int argc, char **argv)
{
	unsigned int n = 0;
	int i;

	for (i = 1; i < argc; i++)
		n += try_directory(argv[i]);
	await_threads();
	(void)printf("%u inputs\n", n);
	return n ? 0 : 1;
}
