package main

import "os"

// processAlive reports whether a process has the ID. On Windows finding a
// process opens it, which fails when it is gone.
func processAlive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}
