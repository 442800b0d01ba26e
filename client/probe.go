package client

import "context"

// NotifyTest opens a notification channel, asks the management point to notify
// this very client, and measures the round trip.
func (c *Client) NotifyTest(ctx context.Context) (StepResult, error) {
	return c.step(StepNotification, notifyComponent, func(r *StepResult) error {
		_, err := c.registered()
		return err
	})
}
