package site

import "context"

// Look does one of the regular duties now.
func (s *Server) Look(ctx context.Context, name string) error {
	for _, d := range s.duties {
		if d.name == name {
			return d.run(ctx)
		}
	}
	panic("there is no duty " + name)
}
