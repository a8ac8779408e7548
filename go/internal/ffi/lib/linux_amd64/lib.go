// Package linux_amd64 holds libblocktier.a; this file keeps the folder when the module is vendored.
package linux_amd64
