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

int
main(int argc, char **argv)
{
	unsigned int n = 0;
	int i;

	for (i = 1; i < argc; i++)
		n += try_directory(argv[i]);
	(void)printf("%u inputs\n", n);
	return n ? 0 : 1;
}
