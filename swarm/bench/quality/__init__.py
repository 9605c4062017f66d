"""What precisions cost a model: its predictions of a text, set against those in fp32."""
