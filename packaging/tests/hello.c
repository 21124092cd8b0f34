#include <framelease.h>
#include <stdio.h>

int main(void)
{
    puts(fl_version());
    return 0;
}
