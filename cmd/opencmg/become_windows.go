package main

import (
	"context"
	"os"
	"os/exec"
)

// become runs another program to its end, since this system can not replace a
// process.
func become(ctx context.Context, program string, args []string) error {
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
