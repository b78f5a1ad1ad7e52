//! oslo.messaging over RabbitMQ. Knows nothing of Nova.
