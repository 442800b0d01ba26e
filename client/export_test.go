package client

// SetCheckpoint has f called at the named points of acts that change the state.
func (c *Client) SetCheckpoint(f func(point string)) { c.checkpoint = f }
