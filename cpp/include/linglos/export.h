/* Symbol visibility of the shared library. */
#ifndef LINGLOS_EXPORT_H
#define LINGLOS_EXPORT_H

#if defined(LINGLOS_STATIC)
#define LINGLOS_API
#elif defined(LINGLOS_BUILDING)
#define LINGLOS_API __attribute__((visibility("default")))
#else
#define LINGLOS_API
#endif

#endif
