//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// become replaces this process by another program.
func become(_ context.Context, program string, args []string) error {
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, args, os.Environ()))
}
